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
	advises, uploads := map[payment.LinkName]bool{}, map[payment.LinkName]bool{}
	for i := range c.Links {
		l := &c.Links[i]
		if _, err := cutOverOf(l); err != nil {
			faults = append(faults, err)
		}
		// A dialect that cannot be loaded is reported with its link.
		if d, err := iso8583.Load(dialects.FS, string(l.Dialect)); err == nil {
			advises[l.Name], uploads[l.Name] = d.CaptureMTI() != 0, d.UploadMTI() != 0
		}
	}
	for i := range c.Merchants {
		m := &c.Merchants[i]
		for _, contract := range m.Contracts {
			takes, message, instead := advises, "no capture message", "file"
			switch by, _ := routing.ParseCaptureBy(contract.CaptureBy); by {
			case routing.CaptureByAdvice:
			case routing.CaptureByBatchUpload:
				takes, message, instead = uploads, "no batch upload", "advice or file"
			default:
				continue
			}
			for _, name := range contract.Links {
				if has, known := takes[name]; known && !has {
					faults = append(faults, fmt.Errorf("merchant %q, scheme %q: capture_by: %s: the dialect of link %q has %s; take %s", m.ID, contract.Scheme, contract.CaptureBy, name, message, instead))
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
