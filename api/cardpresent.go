package api

import (
	"encoding/hex"

	"authswitch/card"
	"authswitch/merchant"
	"authswitch/payment"
)

// cardPresent reads what a terminal read: track 2, the chip's data, the PIN
// block. It stands before the card itself, whose number and expiry track 2 may
// say. All of it is sensitive authentication data: it goes into the request's
// memory, is wiped with it, and no error says any of it.
func (d *document) cardPresent(a *payment.Authorization, gateway *merchant.Gateway) {
	if !d.is(fieldCard, object) {
		return
	}
	for _, f := range []struct {
		field   field
		pointer string
	}{{fieldCardTrack2, "/card/track2"}, {fieldCardEMV, "/card/emv"}, {fieldCardEntry, "/card/entry"}, {fieldCardPIN, "/card/pin"}} {
		if a.Channel != payment.CardPresent && !d.is(f.field, absent) {
			d.fault(f.pointer, "not_card_present", "belongs to channel card_present")
			return
		}
	}
	if name := d.present(fieldCardEntry, "/card/entry", optional); name != nil {
		if a.Entry = payment.ParseEntryMode(name); a.Entry == payment.NoEntryMode {
			d.fault("/card/entry", "invalid_value", "must be chip, contactless, stripe, fallback or keyed")
		}
	}
	if track := d.present(fieldCardTrack2, "/card/track2", optional); track != nil {
		d.track(&a.Card, track)
	}
	if digits := d.present(fieldCardEMV, "/card/emv", optional); digits != nil {
		var room [maxChipBytes]byte
		raw := d.hexadecimal(room[:], digits, "/card/emv")
		if raw != nil {
			var err error
			if a.Card.Chip, err = card.ParseChip(raw); err != nil {
				d.fault("/card/emv", "invalid_value", "must be up to 255 bytes of EMV data objects in hexadecimal")
			}
		}
		clear(room[:])
	}
	if d.is(fieldCardPIN, object) {
		d.pin(&a.PIN, gateway)
	}
}

// Bytes of what is given in hexadecimal.
const (
	maxChipBytes   = 256 // one more than fits, so that a longer one is seen
	maxBlockBytes  = 16
	maxSerialBytes = 12 // of AES DUKPT; 10 of TDES
)

// track takes number and expiry out of track 2.
func (d *document) track(c *card.Card, track []byte) {
	var err error
	if c.Track2, err = card.ParseTrack2(track); err != nil {
		d.fault("/card/track2", "invalid_value", "must be track 2 without sentinels: number, = or D, expiry, service code")
		return
	}
	clean := c.Track2.RevealTrack2()
	for i, b := range clean {
		if b != '=' {
			continue
		}
		if c.PAN, err = card.ParsePAN(clean[:i]); err != nil {
			d.fault("/card/track2", numberFault(err), "its number must have 12 to 19 digits and a check digit that holds")
		}
		if c.Expiry, err = card.ParseExpiry(clean[i+1 : i+5]); err != nil {
			d.fault("/card/track2", "invalid_value", "its expiry must be YYMM")
		}
		return
	}
}

// pin reads the block as the terminal made it: under the key of its zone, or
// under a key of its own where there is a serial number.
func (d *document) pin(p *payment.PIN, gateway *merchant.Gateway) {
	if digits := d.present(fieldPINBlock, "/card/pin/block", required); digits != nil {
		var room [maxBlockBytes]byte
		if raw := d.hexadecimal(room[:], digits, "/card/pin/block"); raw != nil {
			var err error
			if p.Block, err = card.NewPINBlock(raw); err != nil {
				d.fault("/card/pin/block", "invalid_length", "must be 8 or 16 bytes in hexadecimal")
			}
		}
		clear(room[:])
	}
	if name := d.present(fieldPINFormat, "/card/pin/format", required); name != nil {
		if p.Format = payment.ParsePINFormat(name); p.Format == payment.NoPINFormat {
			d.fault("/card/pin/format", "invalid_value", "must be iso0, iso1, iso3 or iso4")
		}
	}
	if name := d.present(fieldPINKey, "/card/pin/key", required); name != nil {
		var ok bool
		if p.Zone, ok = gateway.PINZone(name); !ok {
			d.fault("/card/pin/key", "unknown_key", "this key of yours has no such zone of terminals")
		}
	}
	if digits := d.present(fieldPINSerial, "/card/pin/ksn", optional); digits != nil {
		serial := make([]byte, maxSerialBytes)
		if p.Serial = d.hexadecimal(serial, digits, "/card/pin/ksn"); p.Serial != nil && len(p.Serial) != 10 && len(p.Serial) != 12 {
			d.fault("/card/pin/ksn", "invalid_length", "must be 10 bytes (TDES) or 12 (AES) in hexadecimal")
		}
	}
}

// hexadecimal decodes into room; nil, with the fault told, when it cannot.
func (d *document) hexadecimal(room, digits []byte, pointer string) []byte {
	if len(digits)%2 != 0 || len(digits) == 0 || len(digits)/2 > len(room) {
		d.fault(pointer, "invalid_length", "is empty, too long, or has half a byte")
		return nil
	}
	n, err := hex.Decode(room, digits)
	if err != nil {
		d.fault(pointer, "invalid_value", "must be hexadecimal")
		return nil
	}
	return room[:n]
}
