package routing

import (
	"bufio"
	_ "embed" // the default table
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"authswitch/card"
	"authswitch/payment"
)

// Range is one line of the BIN table: the card numbers whose first digits lie
// between two prefixes of equal length, both included.
type Range struct {
	Low, High uint64 // filled up to 19 digits: Low with zeros, High with nines
	Digits    uint8  // of the prefixes as written
	Scheme    payment.Scheme
	// CoBadged is the other scheme on these cards. Such a range lies on top of
	// ranges of that scheme, which cover it wholly.
	CoBadged payment.Scheme
	Country  string // of the issuer, ISO 3166 alpha-2; "" unknown
	Product  string // for people
	Line     int    // in its file; 0 when it has none
}

// The digits of a prefix: as many as the longest card number, and no fewer
// than the first-six index.
const (
	minPrefix  = 6
	maxPrefix  = 19
	maxProduct = 40
	maxLine    = 256
)

// String shows the range without its filling.
func (r *Range) String() string {
	low, high := r.Prefixes()
	return low + "-" + high
}

// Prefixes are the two prefixes as written.
func (r *Range) Prefixes() (low, high string) {
	return fmt.Sprintf("%019d", r.Low)[:r.Digits], fmt.Sprintf("%019d", r.High)[:r.Digits]
}

// where names the range in a fault.
func (r *Range) where() string {
	if r.Line == 0 {
		return r.String()
	}
	return fmt.Sprintf("line %d (%s)", r.Line, r)
}

// defaultBins is the table of the published prefixes.
//
//go:embed bins.csv
var defaultBins string

// DefaultRanges is the table that comes with the program: the schemes'
// published prefixes, and some co-badged ranges marked as illustrative.
func DefaultRanges() []Range {
	ranges, err := ReadRanges(strings.NewReader(defaultBins))
	if err != nil {
		panic(err) // the file is part of the program; a test reads it
	}
	return ranges
}

// ReadRanges reads lines of comma-separated fields after a header that names
// them: low, high and scheme, and optionally co_badged, country and product, in
// any order. Blank lines and lines that begin with '#' are comments. All
// faults are reported with their lines, overlaps with both.
func ReadRanges(r io.Reader) ([]Range, error) {
	var f faults
	var ranges []Range
	var columns []string
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, maxLine), maxLine)
	number := 0
	for lines.Scan() {
		number++
		line := strings.TrimSuffix(lines.Text(), "\r")
		if strings.TrimSpace(line) == "" || line[0] == '#' {
			continue
		}
		if columns == nil {
			var err error
			if columns, err = readHeader(line); err != nil {
				return nil, fmt.Errorf("line %d: %w", number, err)
			}
			continue
		}
		one, wrong := readRange(columns, line)
		for _, err := range wrong {
			f.addf("line %d: %w", number, err)
		}
		if len(wrong) > 0 {
			continue
		}
		one.Line = number
		if len(ranges) == maxRanges {
			return nil, fmt.Errorf("line %d: more than %d ranges", number, maxRanges)
		}
		ranges = append(ranges, one)
	}
	if err := lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("longer than %d characters", maxLine)
		}
		return nil, fmt.Errorf("line %d: %w", number+1, err)
	}
	if len(ranges) == 0 && len(f.all) == 0 {
		f.addf("no ranges")
	}
	sortRanges(ranges)
	checkRanges(ranges, &f)
	if err := f.err(); err != nil {
		return nil, err
	}
	return ranges, nil
}

// columnNames are the columns a table may have; the first three it must.
var columnNames = [...]string{"low", "high", "scheme", "co_badged", "country", "product"}

func readHeader(line string) ([]string, error) {
	columns := strings.Split(line, ",")
	for i, name := range columns {
		columns[i] = strings.TrimSpace(name)
		if !slices.Contains(columnNames[:], columns[i]) {
			return nil, fmt.Errorf("unknown column %q; columns are %s", columns[i], strings.Join(columnNames[:], ", "))
		}
		if slices.Contains(columns[:i], columns[i]) {
			return nil, fmt.Errorf("column %q twice", columns[i])
		}
	}
	for _, name := range columnNames[:3] {
		if !slices.Contains(columns, name) {
			return nil, fmt.Errorf("the header has no column %q", name)
		}
	}
	return columns, nil
}

// readRange reads one line, or says everything that is wrong with it.
func readRange(columns []string, line string) (Range, []error) {
	fields := strings.Split(line, ",")
	if len(fields) != len(columns) {
		return Range{}, []error{fmt.Errorf("%d fields; the header has %d", len(fields), len(columns))}
	}
	var r Range
	var low, high, scheme, other string
	for i, name := range columns {
		value := strings.TrimSpace(fields[i])
		switch name {
		case "low":
			low = value
		case "high":
			high = value
		case "scheme":
			scheme = value
		case "co_badged":
			other = value
		case "country":
			r.Country = strings.Clone(value)
		case "product":
			r.Product = strings.Clone(value)
		}
	}
	var f faults
	if err := r.setPrefixes(low, high); err != nil {
		f.add(err)
	}
	if r.Scheme = payment.ParseScheme([]byte(scheme)); r.Scheme == payment.NoScheme {
		f.addf("unknown scheme %q", scheme)
	}
	if r.CoBadged = payment.ParseScheme([]byte(other)); r.CoBadged == payment.NoScheme && other != "" {
		f.addf("unknown scheme %q in co_badged", other)
	}
	for _, err := range r.validate() {
		f.add(err)
	}
	return r, f.all
}

// setPrefixes fills the prefixes up to 19 digits.
func (r *Range) setPrefixes(low, high string) error {
	if len(low) != len(high) {
		return fmt.Errorf("low has %d digits and high has %d", len(low), len(high))
	}
	if len(low) < minPrefix || len(low) > maxPrefix || !digits(low) || !digits(high) {
		return fmt.Errorf("low and high are not %d to %d digits", minPrefix, maxPrefix)
	}
	// 19 digits always fit an uint64: ParseUint cannot fail.
	r.Digits = uint8(len(low))
	r.Low, _ = strconv.ParseUint(low+strings.Repeat("0", maxPrefix-len(low)), 10, 64)
	r.High, _ = strconv.ParseUint(high+strings.Repeat("9", maxPrefix-len(high)), 10, 64)
	if r.Low > r.High {
		return fmt.Errorf("low %s is above high %s", low, high)
	}
	return nil
}

// NewRange makes a range of two prefixes, for tables that are not files.
func NewRange(low, high string, scheme, coBadged payment.Scheme) (Range, error) {
	r := Range{Scheme: scheme, CoBadged: coBadged}
	if err := r.setPrefixes(low, high); err != nil {
		return Range{}, err
	}
	return r, errors.Join(r.validate()...)
}

// validate checks everything but the scheme's name and the prefixes.
func (r *Range) validate() []error {
	var f faults
	if r.CoBadged != payment.NoScheme && r.CoBadged == r.Scheme {
		f.addf("co-badged with its own scheme %s", r.Scheme)
	}
	if r.Country != "" && (len(r.Country) != 2 || r.Country[0] < 'A' || r.Country[0] > 'Z' || r.Country[1] < 'A' || r.Country[1] > 'Z') {
		f.addf("country %q is not two capital letters", r.Country)
	}
	if len(r.Product) > maxProduct || !printable(r.Product) {
		f.addf("product is longer than %d printable characters", maxProduct)
	}
	return f.all
}

func sortRanges(ranges []Range) {
	slices.SortStableFunc(ranges, func(a, b Range) int {
		switch {
		case a.Low < b.Low:
			return -1
		case a.Low > b.Low:
			return 1
		}
		return 0
	})
}

// padded is a card number filled up with zeros to 19 digits, as Range.Low is.
func padded(p *card.PAN) uint64 {
	var n uint64
	b := p.RevealPAN()
	for _, c := range b {
		n = n*10 + uint64(c-'0')
	}
	return n * powers[maxPrefix-len(b)]
}

// powers of ten.
var powers = [maxPrefix + 1]uint64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
}
