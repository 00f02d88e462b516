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
func (c *Config) captureFaults(spoken map[payment.LinkName]*iso8583.Dialect) []error {
	var faults []error
	for i := range c.Links {
		if _, err := cutOverOf(&c.Links[i]); err != nil {
			faults = append(faults, err)
		}
	}
	advises, uploads := map[payment.LinkName]bool{}, map[payment.LinkName]bool{}
	for name, d := range spoken {
		advises[name], uploads[name] = d.CaptureMTI() != 0, d.UploadMTI() != 0
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

// spoken are the links' dialects, without those that cannot be loaded, which are
// reported with their links.
func (c *Config) spoken() map[payment.LinkName]*iso8583.Dialect {
	loaded, spoken := map[payment.DialectName]*iso8583.Dialect{}, map[payment.LinkName]*iso8583.Dialect{}
	for i := range c.Links {
		l := &c.Links[i]
		d, known := loaded[l.Dialect]
		if !known {
			d, _ = iso8583.Load(dialects.FS, string(l.Dialect))
			loaded[l.Dialect] = d
		}
		if d != nil {
			spoken[l.Name] = d
		}
	}
	return spoken
}

// lack is a term that a contract does not say, and that the dialect of one of its
// links needs in every payment: each would be refused as not transmissible.
type lack struct {
	merchant, contract int
	term               string
	link               payment.LinkName
}

func (c *Config) lacks(spoken map[payment.LinkName]*iso8583.Dialect) (all []lack) {
	for m := range c.Merchants {
		for n := range c.Merchants[m].Contracts {
			contract := &c.Merchants[m].Contracts[n]
			found := map[string]bool{}
			for _, name := range contract.Links {
				d, known := spoken[name]
				if !known {
					continue // reported with the link, or as unknown
				}
				for _, term := range d.Lacks(contract.Terms()) {
					if !found[term] {
						found[term] = true
						all = append(all, lack{m, n, term, name})
					}
				}
			}
		}
	}
	return all
}

// why says it of a file.
func (l lack) why(c *Config) error {
	m := &c.Merchants[l.merchant]
	return fmt.Errorf("merchant %q, scheme %q: %s: %s", m.ID, m.Contracts[l.contract].Scheme, l.term, l.detail())
}

func (l lack) detail() string {
	return fmt.Sprintf("the dialect of link %q needs it in every payment", l.link)
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
