package sim

import "slices"

// coherent says whether how the card came (DE 22) and under which circumstances
// (DE 25) can both be true: a switch that mixes them up shifts the liability for
// a payment, and no answer would tell it. It is written from ISO 8583:1987 and
// the schemes' tables, not from the dialect files. Other versions carry this in
// one element, and are not judged.
func (p *profile) coherent(mode, condition []byte) bool {
	if p.original != 90 || len(mode) < 2 || len(condition) != 2 {
		return true
	}
	var modes []string
	switch string(condition) {
	case "59": // electronic commerce: typed in, on file, or e-commerce itself
		modes = []string{"01", "10", "81"}
	case "08": // mail, telephone, recurring: typed in, or on file
		modes = []string{"01", "10"}
	case "00": // the counter: anything but e-commerce
		return string(mode[:2]) != "81"
	default:
		return true
	}
	return slices.Contains(modes, string(mode[:2]))
}
