package main

import (
	"fmt"
	"time"

	"authswitch/iso8583"
	"authswitch/iso8583/dialects"
	"authswitch/payment"
	"authswitch/routing"
)

// captureFaults are contracts whose captures could not travel as they say: what
// cannot be done is refused here, never recorded as done.
func (c *Config) captureFaults() []error {
	var faults []error
	advises := map[payment.LinkName]bool{}
	for i := range c.Links {
		l := &c.Links[i]
		if _, err := cutOverOf(l); err != nil {
			faults = append(faults, err)
		}
		// A dialect that cannot be loaded is reported with its link.
		if d, err := iso8583.Load(dialects.FS, string(l.Dialect)); err == nil {
			advises[l.Name] = d.CaptureMTI() != 0
		}
	}
	for i := range c.Merchants {
		m := &c.Merchants[i]
		for _, contract := range m.Contracts {
			if by, _ := routing.ParseCaptureBy(contract.CaptureBy); by != routing.CaptureByAdvice {
				continue
			}
			for _, name := range contract.Links {
				if takes, known := advises[name]; known && !takes {
					faults = append(faults, fmt.Errorf("merchant %q, scheme %q: capture_by: advice: the dialect of link %q has no capture message; take file", m.ID, contract.Scheme, name))
				}
			}
		}
	}
	return faults
}

// cutOverOf is when a link's business day ends, from midnight UTC.
func cutOverOf(l *LinkConfig) (time.Duration, error) {
	if l.CutOver == "" {
		return 0, nil
	}
	at, err := time.Parse("15:04", l.CutOver)
	if err != nil {
		return 0, fmt.Errorf("link %q: cut_over: %q is not HH:MM", l.Name, l.CutOver)
	}
	return time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute, nil
}
