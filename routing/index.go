package routing

import (
	"authswitch/payment"
)

// brands are the schemes on a stretch of card numbers.
type brands struct {
	low, high  uint64
	own, other payment.Scheme
	rangeOwn   int32 // the range that says so; the lower layer of a co-badge is rangeBase
	rangeBase  int32 // -1 when there is one layer only
}

// rangeIndex finds a number's brands: the ranges cut into stretches that do
// not overlap, sorted, and for each first six digits the stretch to start at.
// The six digits leave a handful to search by halves, against 19 halvings over
// the whole: 350,000 ranges cost two or three cache misses.
type rangeIndex struct {
	ranges  []Range // sorted by Low
	stretch []brands
	// first[p] is the first stretch that ends at or after prefix p; first[1e6]
	// is their number.
	first []uint32
}

const (
	prefixes = 1_000_000
	perSix   = 10_000_000_000_000 // numbers under one six-digit prefix
)

// find is the stretch that holds a number, nil when none does.
func (x *rangeIndex) find(number uint64) *brands {
	prefix := number / perSix
	if prefix >= prefixes {
		return nil
	}
	low, high := int(x.first[prefix]), int(x.first[prefix+1])
	// The answer lies in [low, high]: the stretch at high may begin under this
	// prefix and end under a later one.
	high = min(high+1, len(x.stretch))
	for low < high {
		middle := int(uint(low+high) / 2)
		if x.stretch[middle].high < number {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == len(x.stretch) || x.stretch[low].low > number {
		return nil
	}
	return &x.stretch[low]
}

func buildIndex(given []Range, f *faults) rangeIndex {
	if len(given) > maxRanges {
		f.addf("%d BIN ranges; at most %d are supported", len(given), maxRanges)
		return rangeIndex{}
	}
	x := rangeIndex{ranges: append([]Range(nil), given...)}
	sortRanges(x.ranges)
	checkRanges(x.ranges, f)
	if len(f.all) > 0 {
		return x
	}
	x.cut()
	x.first = make([]uint32, prefixes+1)
	i := 0
	for p := range x.first[:prefixes] {
		for i < len(x.stretch) && x.stretch[i].high < uint64(p)*perSix {
			i++
		}
		x.first[p] = uint32(i)
	}
	x.first[prefixes] = uint32(len(x.stretch))
	return x
}

// cut lays the co-badged ranges over the others. checkRanges made sure that
// neither layer overlaps itself and that the lower one covers the upper.
func (x *rangeIndex) cut() {
	base, upper := layers(x.ranges)
	x.stretch = make([]brands, 0, len(base)+2*len(upper))
	next := 0
	for _, b := range base {
		bottom := &x.ranges[b]
		from := bottom.Low
		plain := func(to uint64) {
			if from <= to {
				x.stretch = append(x.stretch, brands{low: from, high: to, own: bottom.Scheme, rangeOwn: b, rangeBase: -1})
			}
		}
		for next < len(upper) && x.ranges[upper[next]].Low <= bottom.High {
			top := &x.ranges[upper[next]]
			start, end := max(top.Low, from), min(top.High, bottom.High)
			if start > from {
				plain(start - 1)
			}
			x.stretch = append(x.stretch, brands{start, end, top.Scheme, top.CoBadged, upper[next], b})
			from = end + 1
			if top.High > bottom.High {
				break // it goes on over the next range
			}
			next++
		}
		plain(bottom.High)
	}
}

// layers are the places of plain ranges and of co-badged ones, in order.
func layers(ranges []Range) (base, upper []int32) {
	base = make([]int32, 0, len(ranges))
	for i := range ranges {
		if ranges[i].CoBadged == payment.NoScheme {
			base = append(base, int32(i))
		} else {
			upper = append(upper, int32(i))
		}
	}
	return base, upper
}

// checkRanges reports overlaps and co-badges that do not lie on what they
// claim. The ranges are sorted.
func checkRanges(ranges []Range, f *faults) {
	base, upper := layers(ranges)
	overlaps := func(layer []int32) {
		widest := -1 // of those before, the one that reaches furthest
		for _, i := range layer {
			r := &ranges[i]
			if widest >= 0 && ranges[widest].High >= r.Low {
				f.addf("%s overlaps %s; two schemes on the same cards are declared in co_badged", r.where(), ranges[widest].where())
			}
			if widest < 0 || r.High > ranges[widest].High {
				widest = int(i)
			}
		}
	}
	overlaps(base)
	overlaps(upper)
	at := 0
	for _, i := range upper {
		top := &ranges[i]
		for at < len(base) && ranges[base[at]].High < top.Low {
			at++
		}
		checkCovered(ranges, base[at:], top, f)
	}
}

// checkCovered reports where a co-badged range lies on another scheme or on
// nothing. The base ranges begin with the first that can hold it.
func checkCovered(ranges []Range, base []int32, top *Range, f *faults) {
	covered := top.Low // first number not yet seen covered
	for _, i := range base {
		r := &ranges[i]
		if r.Low > covered {
			break
		}
		if r.Scheme != top.CoBadged {
			f.addf("%s is co-badged with %s but lies on %s of %s", top.where(), top.CoBadged, r.where(), r.Scheme)
			return
		}
		if r.High >= top.High {
			return
		}
		covered = r.High + 1
	}
	f.addf("%s is co-badged with %s, of which no range covers it wholly", top.where(), top.CoBadged)
}
