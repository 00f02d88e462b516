package journal

import (
	"errors"
	"fmt"

	"authswitch/payment"
)

// Version says which commands a cluster's journal may hold, and which rules
// apply to them. It is part of the state and only grows, by a command that the
// leader proposes when every member has said that it can apply what comes with
// it. So programs of two versions work in one cluster, and the same log gives
// the same state with both.
//
// A new kind of command, a new version of one's body, a new form of a record
// and a rule that changes what an old command does take a new Version: needs
// has a row for the first two, the others ask Machine.at.
type Version uint16

const (
	// FirstVersion is that of a journal that says nothing about it.
	FirstVersion Version = 1
	// NewestVersion is what this program can apply.
	NewestVersion = versionVoids
	// versionMarks brings the version itself, the members' marks, and a fence
	// that holds operations and schedules, too.
	versionMarks Version = 2
	// versionShares brings the nodes' shares of a link's connections.
	versionShares Version = 3
	// versionUploads brings captures by batch upload, and their totals.
	versionUploads Version = 4
	// versionVoids brings what follows a void: a last capture that is undone was not
	// the last, and what nobody can capture any more is given back; and the void
	// names its capture as it was first sent.
	versionVoids Version = 5
)

// ErrNewer means that bytes were written by a newer program: this one may not
// go on with them, and is not damaged.
var ErrNewer = errors.New("written by a newer program than this one")

// Needs is the version that a cluster must have before a command may be
// proposed to it.
func Needs(kind Kind, body []byte) Version {
	switch kind {
	case KindMarks:
		return versionMarks
	case KindShare:
		return versionShares
	case KindUpload, KindTotals, KindAgreed:
		return versionUploads
	case KindOpen, KindNext, KindOperate:
		if uploads(kind, body) {
			return versionUploads
		}
	}
	return FirstVersion // KindVersion, too: who proposes it has asked every member
}

// uploads says whether a command is about a capture, or a refund, by batch upload.
func uploads(kind Kind, body []byte) bool {
	c := cursor{b: body}
	if kind == KindOperate {
		var o payment.Operation
		readOperation(&c, &o)
		return o.Means == payment.MeansUpload
	}
	if kind == KindNext {
		var o payment.Outcome
		readOutcome(&c, &o)
	}
	var h intentHead
	h.read(&c)
	return h.capture.Means == payment.MeansUpload
}

// Version is the state's.
func (m *Machine) Version() Version { return m.version }

// at says whether the rules of a version apply.
func (m *Machine) at(v Version) bool { return m.version >= v }

// Limit makes this machine one of an older program, for tests: it refuses what
// is newer.
func (m *Machine) Limit(v Version) { m.newest = v }

// AppendVersion writes a KindVersion command.
func AppendVersion(b []byte, v Version) []byte {
	return put16(append(b, commandVersion), uint16(v))
}

func (m *Machine) applyVersion(c *cursor, r *Result) error {
	c.version(commandVersion)
	v := Version(c.u16())
	if err := c.end(); err != nil {
		return err
	}
	if err := m.understands(v); err != nil {
		return err
	}
	if v > m.version {
		m.version = v
		r.Count = 1
	}
	return nil
}

func (m *Machine) understands(v Version) error {
	if v > m.newest {
		return fmt.Errorf("%w: the journal is at version %d, this program goes to %d", ErrNewer, v, m.newest)
	}
	return nil
}
