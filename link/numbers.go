package link

import "authswitch/payment"

// numbers hands out trace and reference numbers from leased ranges. It holds
// few ranges, never asks for more than one at a time, and asks for the next
// when what is left falls under a target, which starts at half a range and
// doubles when a lease came too late to be comfortable.
type numbers struct {
	ranges  [maxRanges]payment.Numbers
	held    int
	size    uint64 // of the last range
	target  uint64
	asked   bool
	refused bool // ran dry since the last grant
	drops   uint // how often drop was called: a lease asked for before is nobody's now
}

// maxRanges bounds what one node takes from the six digits all nodes share.
const maxRanges = 8

// wanted says whether the next range should be leased now.
func (n *numbers) wanted() bool {
	return !n.asked && n.held < maxRanges && (n.held == 0 || n.left() <= n.target)
}

// ask notes that a lease is under way.
func (n *numbers) ask() { n.asked = true }

// grant takes in a leased range; one that is empty or holds impossible numbers
// is refused.
func (n *numbers) grant(r payment.Numbers) bool {
	n.asked = false
	if r.FirstSTAN == 0 || r.LastSTAN < r.FirstSTAN || r.LastSTAN > payment.MaxSTAN || r.LastRRN < r.FirstRRN || n.held == maxRanges {
		return false
	}
	late := n.size > 0 && (n.refused || n.left() < n.target/2)
	n.size = extent(r)
	if n.target == 0 {
		n.target = n.size / 2
	}
	if late {
		n.target = min(2*n.target, (maxRanges-2)*n.size)
	}
	n.refused = false
	n.ranges[n.held] = r
	n.held++
	return true
}

// take is the next pair of numbers whose trace number is not busy.
func (n *numbers) take(busy func(payment.STAN) bool) (payment.STAN, uint64, bool) {
	for n.held > 0 {
		r := &n.ranges[0]
		stan, rrn := r.FirstSTAN, r.FirstRRN
		r.FirstSTAN++
		r.FirstRRN++
		if r.FirstSTAN > r.LastSTAN || r.FirstRRN > r.LastRRN {
			copy(n.ranges[:], n.ranges[1:n.held])
			n.held--
		}
		if !busy(stan) {
			return stan, rrn, true
		}
	}
	n.refused = true
	return 0, 0, false
}

// drop forgets every range: the session that leased them is over.
func (n *numbers) drop() { n.held, n.drops = 0, n.drops+1 }

func (n *numbers) left() uint64 {
	var total uint64
	for _, r := range n.ranges[:n.held] {
		total += extent(r)
	}
	return total
}

// extent is how many messages a range numbers.
func extent(r payment.Numbers) uint64 {
	return min(uint64(r.LastSTAN-r.FirstSTAN)+1, r.LastRRN-r.FirstRRN+1)
}
