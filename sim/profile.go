package sim

import (
	"fmt"
	"strconv"
	"strings"

	"authswitch/sim/oracle"
)

// profile is what the host of one scheme says and where: its spelling of the
// response codes and the elements that carry its answers. It is written from
// the schemes' documents and not read from the dialect file, so that a mistake
// there is seen as a disagreement.
type profile struct {
	spelled [len(codes87)]string

	reversalAccepted string
	networkAccepted  string
	networkRefused   string

	function int // the element that says what a network message is for
	signOn   []string
	signOff  []string
	echo     []string
	network  string // message type of a network request, without its version digit
	admin    string // of a reject

	original int // 90 or 56
	when     int // the element of the original that its key holds: 7 or 12
	lengthed bool
	echoed   []int // elements an answer repeats when the request has them
	ownTime  bool  // answers have the host's own time in DE 7
	terminal bool  // reversals carry DE 41, so it is part of the key

	cvv         place         // where requests have the printed security code
	cvvResult   []stamp       // how answers say what it was worth
	headerSwap  []oracle.Swap // of the network header, for the correctness codec
	headerTotal oracle.Total
	tracks      []oracle.Track // that travel packed, for the correctness codec
	networkID   []stamp        // what makes the network transaction id
}

// place is an element, or a piece of one.
type place struct {
	de  int
	sub string
}

// stamp is something an answer carries: a fixed text, then the day, digits of
// a number that is the payment's own, or the result of the security code.
type stamp struct {
	place
	text   string
	day    bool // MMDD of today
	digits int
	result bool
	tail   string
}

// codes87 are the response codes a simulator can give, in 1987 spelling.
// Read-only.
var codes87 = [...]string{
	"00", "10", "01", "03", "04", "05", "06", "12", "13", "14", "25", "30", "41", "43", "51", "54", "55", "57", "58", "61", "62", "63", "1A",
	"91", "94", "96", "88", "95",
}

// codes93 are their action codes of 1993, in the same order; read-only. 1993
// has no soft decline of its own: 180 is a private one.
var codes93 = [len(codes87)]string{
	"000", "002", "107", "109", "200", "100", "909", "902", "110", "111", "914", "904", "208", "209", "116", "101", "117", "119", "120", "121",
	"104", "122", "180", "912", "913", "909", "916", "501",
}

// indexOf is the place of a 1987 code in codes87, which has fewer than 256.
func indexOf(code string) uint8 {
	for i, c := range codes87 {
		if c == code {
			return uint8(i)
		}
	}
	return 0
}

func known87(code string) bool {
	return code == codes87[0] || indexOf(code) != 0
}

// index is the code whose spelling this is.
func (p *profile) index(spelled []byte) uint8 {
	for i, s := range p.spelled {
		if s == string(spelled) {
			return uint8(i)
		}
	}
	return 0
}

// profileOf is the profile of a dialect, found by its name and, for one we do
// not know, by the version of its message types.
func profileOf(dialect string, version byte, codes map[string]string) (*profile, error) {
	var p *profile
	switch version {
	case '0':
		p = profile87()
	case '1':
		p = profile93()
	case '2':
		p = profile03()
	default:
		return nil, fmt.Errorf("message types of version %q: %w", version, ErrScenario)
	}
	p.adapt(dialect)
	for code, spelled := range codes {
		p.spelled[indexOf(code)] = spelled
	}
	return p, nil
}

func profile87() *profile {
	return &profile{
		spelled:          codes87,
		reversalAccepted: "00", networkAccepted: "00", networkRefused: "05",
		function: 70, signOn: []string{"001", "061", "071", "081"}, signOff: []string{"002", "062", "072", "082"}, echo: []string{"301", "270"},
		network: "800", admin: "620", original: 90, when: 7, terminal: true,
		echoed: []int{2, 3, 4, 7, 11, 12, 13, 32, 33, 37, 41, 42, 49, 70, 100},
	}
}

func profile93() *profile {
	return &profile{
		spelled:          codes93,
		reversalAccepted: "400", networkAccepted: "800", networkRefused: "909",
		function: 24, signOn: []string{"801"}, signOff: []string{"802"}, echo: []string{"831"},
		network: "804", admin: "620", original: 56, when: 12, lengthed: true, terminal: true,
		echoed:  []int{2, 3, 4, 7, 11, 12, 24, 32, 33, 37, 41, 42, 49, 53, 100},
		ownTime: true,
	}
}

// profile03 is 1993 with a digit more: 116 is 1016, 400 is 4000.
func profile03() *profile {
	p := profile93()
	for i, c := range p.spelled {
		p.spelled[i] = c[:1] + "0" + c[1:]
	}
	p.reversalAccepted, p.networkAccepted, p.networkRefused = "4000", "0000", "9009"
	p.lengthed, p.ownTime = false, false
	return p
}

// adapt is what the schemes' hosts say that no standard does.
func (p *profile) adapt(dialect string) {
	family, _, _ := strings.Cut(dialect, "-")
	switch family {
	case "ascii87", "iso93", "discover": // ascii87-single is of the first's family
		p.cvv = place{48, "92"}
		p.cvvResult = []stamp{{place: place{48, "87"}, result: true}}
		p.networkID = []stamp{{place: place{48, "63"}, digits: 15}}
	case "bcd87":
		p.tracks = packedTracks("bcd", false, 0)
		p.cvv = place{48, "0092"}
		p.cvvResult = []stamp{{place: place{48, "0087"}, result: true}}
		p.networkID = []stamp{{place: place{48, "0063"}, digits: 15}}
	case "cb":
		p.tracks = packedTracks("binary", false, 0)
		p.spelled[indexOf("1A")] = "A1"
		p.cvv = place{59, "0402"}
		p.cvvResult = []stamp{{place: place{44, "0001"}, result: true}}
		p.networkID = []stamp{{place: place{48, "0010"}, digits: 18}}
	case "visa":
		p.tracks = packedTracks("binary", false, 0)
		p.cvv = place{126, "10.3"}
		// Positions before the one that is wanted are filled with spaces.
		for i, width := range []int{1, 1, 1, 1, 1, 2, 1, 1, 1} {
			p.cvvResult = append(p.cvvResult, stamp{place: place{44, strconv.Itoa(i + 1)}, text: "  "[:width]})
		}
		p.cvvResult = append(p.cvvResult, stamp{place: place{44, "10"}, result: true})
		p.networkID = []stamp{{place: place{62, "2"}, digits: 15}}
		p.headerSwap, p.headerTotal = []oracle.Swap{{A: 5, B: 8, Length: 3}}, oracle.Total{At: 3, Length: 2}
	case "mastercard":
		p.spelled[indexOf("1A")] = "65"
		p.cvv = place{48, "92"}
		// As text, because moov has no composite with a category before its pieces.
		p.cvvResult = []stamp{{place: place{48, ""}, text: "T8701", result: true}}
		p.networkID = []stamp{{place: place{63, "1"}, text: "MCC"}, {place: place{63, "2"}, digits: 9}, {place: place{15, ""}, day: true}}
	case "amex":
		p.spelled[indexOf("1A")] = "187"
		p.cvv = place{53, ""}
		p.cvvResult = []stamp{{place: place{44, ""}, result: true}}
		p.networkID = []stamp{{place: place{31, ""}, digits: 15}}
	case "unionpay":
		p.network = "820"
		p.cvv = place{61, "6"}
		for i, width := range []int{2, 20, 1, 1, 3, 3} {
			p.cvvResult = append(p.cvvResult, stamp{place: place{61, strconv.Itoa(i + 1)}, text: strings.Repeat(" ", width)})
		}
		p.cvvResult = append(p.cvvResult, stamp{place: place{61, "7"}, result: true})
		p.headerSwap, p.headerTotal = []oracle.Swap{{A: 6, B: 17, Length: 11}}, oracle.Total{At: 2, Length: 4, ASCII: true}
	case "jcb":
		p.tracks = packedTracks("binary", false, 0)
		p.cvv = place{48, "01"}
		p.cvvResult = []stamp{{place: place{44, "1"}, result: true}}
		p.networkID = []stamp{{place: place{48, "31"}, digits: 16}}
	case "ancv":
		p.cvv = place{48, "02"}
		p.cvvResult = []stamp{{place: place{48, "03"}, result: true}}
	case "as2805":
		p.tracks = packedTracks("bcd", false, 0)
		p.spelled[indexOf("25")] = "21"
		p.spelled[indexOf("88")] = "98"
	case "ifsf":
		p.network = "820"
		p.spelled[indexOf("25")] = "480"
	case "cmf":
		p.tracks = packedTracks("bcd", true, 0xF)
		p.cvv = place{53, ""}
		// Dataset 72, its length, and in it tag 83.
		p.cvvResult = []stamp{{place: place{49, ""}, text: "\x72\x00\x03\x83\x01", result: true}}
		p.networkID = []stamp{{place: place{21, ""}, text: "1", digits: 15, tail: "000000"}}
	}
}

// packedTracks are DE 35 and 36 in packed digits.
func packedTracks(length string, right bool, filler byte) []oracle.Track {
	return []oracle.Track{
		{DE: 35, Max: 37, Prefix: length, Right: right, Filler: filler}, {DE: 36, Max: 104, Prefix: length, Right: right, Filler: filler},
	}
}
