package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"

	"authswitch/journal"
)

// A member whose disk is not to be believed stops for good: a file in its data
// directory says why, and it does not start again before it is rebuilt from the
// others. Otherwise a supervisor would start it over and over, and once it would
// come through: after the page that was damaged is not read, or after the
// leader that knew better has gone.
//
//	rebuild.json   {"stage": "refused", "reason": "…"}
//
// `authswitch cluster rebuild` takes the member out, makes the stage wipe, waits
// until the node's next start has emptied its disk, and adds the member again,
// which the leader then fills. A node that runs when the stage becomes wipe ends
// itself: added again with what it has, it would be a member in good standing
// whose next start, some day, empties its disk.

// ErrRefused means that this node's disk was found wrong and that the node may
// not start before it is rebuilt.
var ErrRefused = errors.New("this node's disk is not to be believed")

// ErrRebuild ends a node that runs when an operator rebuilds it: its supervisor
// starts it again, and that start empties its disk.
var ErrRebuild = errors.New("an operator rebuilds this node: its next start empties its journal")

type rebuildStage string

const (
	stageRefused rebuildStage = "refused" // do not start
	stageWipe    rebuildStage = "wipe"    // an operator says: begin anew
	stageJoining rebuildStage = "joining" // wiped, and not caught up yet
)

const rebuildFile = "rebuild.json"

type rebuildNote struct {
	Stage  rebuildStage `json:"stage"`
	Reason string       `json:"reason,omitempty"`
}

func readRebuild(fs vfs.FS, dir string) (n rebuildNote, err error) {
	path := fs.PathJoin(dir, rebuildFile)
	if _, err := fs.Stat(path); errors.Is(err, os.ErrNotExist) {
		return n, nil // as it nearly always is
	}
	b, err := readFile(fs, path)
	if err != nil {
		return n, fmt.Errorf("store: %w", err)
	}
	if json.Unmarshal(b, &n) != nil {
		// What is cut here was a refusal: nobody else writes it in a hurry.
		return rebuildNote{Stage: stageRefused, Reason: rebuildFile + " is damaged"}, nil //nolint:nilerr // what it says is lost, not that it was there
	}
	return n, nil
}

func writeRebuild(fs vfs.FS, dir string, n rebuildNote) error {
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	if err := writeFile(fs, fs.PathJoin(dir, rebuildFile), b); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return syncDir(fs, dir)
}

// WipeAtStart makes a node's next start an empty member's, which waits for what
// the leader sends it. Nil is the real disk.
func WipeAtStart(fs vfs.FS, dir string) error {
	if fs == nil {
		fs = vfs.Default
	}
	return writeRebuild(fs, dir, rebuildNote{Stage: stageWipe, Reason: "an operator rebuilds this node"})
}

// Wiped says that the start which WipeAtStart asked for has begun: the node may be
// added again. Nil is the real disk.
func Wiped(fs vfs.FS, dir string) (bool, error) {
	if fs == nil {
		fs = vfs.Default
	}
	n, err := readRebuild(fs, dir)
	if err == nil && n.Stage == stageRefused {
		return false, fmt.Errorf("%w: %s", ErrRefused, n.Reason)
	}
	return n.Stage != stageWipe, err
}

// toBeWiped says that an operator rebuilds this node, which runs.
func (s *Store) toBeWiped() bool {
	n, err := readRebuild(s.deps.FS, s.cfg.Dir)
	return err == nil && n.Stage == stageWipe
}

// preparedDisk looks at the note and does what it says, before anything is
// opened.
func (s *Store) preparedDisk() error {
	fs, dir := s.deps.FS, s.cfg.Dir
	n, err := readRebuild(fs, dir)
	if err != nil {
		return err
	}
	switch n.Stage {
	case "":
		return nil
	case stageRefused:
		return fmt.Errorf("%w: %s; %s", ErrRefused, n.Reason, s.advice())
	case stageWipe:
		s.deps.Log.Warn("this node is rebuilt from the others: its journal is removed")
		for _, sub := range [...]string{"log", stateDir, "snapshots", "incoming", "backup" + unfinished} {
			if err := fs.RemoveAll(fs.PathJoin(dir, sub)); err != nil {
				return fmt.Errorf("store: %w", err)
			}
		}
		if err := syncDir(fs, dir); err != nil {
			return fmt.Errorf("store: %w", err)
		}
		if err := writeRebuild(fs, dir, rebuildNote{Stage: stageJoining}); err != nil {
			return err
		}
	case stageJoining:
	default:
		return fmt.Errorf("store: %s: stage %q is not known", rebuildFile, n.Stage)
	}
	s.cfg.Join, s.rebuilding = true, true
	return nil
}

// rebuilt is called when this node has caught up.
func (s *Store) rebuilt() error {
	if !s.rebuilding {
		return nil
	}
	fs := s.deps.FS
	if err := fs.Remove(fs.PathJoin(s.cfg.Dir, rebuildFile)); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	s.deps.Log.Info("this node is rebuilt")
	return syncDir(fs, s.cfg.Dir)
}

func (s *Store) advice() string {
	if s.alone() {
		return "it has no others to be rebuilt from: restore a backup into an empty directory (`authswitch cluster snapshot restore`)"
	}
	return "rebuild it from the others with `authswitch cluster rebuild --config FILE`, FILE being its own"
}

// errNetwork is of what connects the members. A certificate that is not there says
// nothing about the disk.
var errNetwork = errors.New("the way to the other members does not open")

// damaged says whether an error means that what the disk gives back is not what
// was written to it. A full disk, or one that answers with errors, is none: what
// it has is right.
func damaged(err error) bool {
	switch {
	case errors.Is(err, journal.ErrNewer), errors.Is(err, ErrRefused), errors.Is(err, errNetwork):
		return false
	case errors.Is(err, journal.ErrCorrupt), errors.Is(err, errBadLog), errors.Is(err, errGap), errors.Is(err, errDamagedTable), errors.Is(err, errDamagedSnapshot), errors.Is(err, errDescription), errors.Is(err, errDamagedRecord), errors.Is(err, ErrLess), errors.Is(err, ErrBehind):
		return true
	}
	if errors.Is(err, record.ErrInvalidChunk) || errors.Is(err, record.ErrZeroedChunk) || errors.Is(err, record.ErrUnexpectedEOF) {
		return true // of the list of tables, which Pebble does not call corrupt
	}
	if _, cut := errors.AsType[*json.SyntaxError](err); cut { // a snapshot's description
		return true
	}
	// A file that others name is gone, or is shorter than they say: of that Pebble
	// has no word but the text.
	return pebble.IsCorruptionError(err) || errors.Is(err, os.ErrNotExist) || strings.Contains(err.Error(), "object size mismatch")
}

// judge adds to an error that ends this node what to do about it, and keeps a
// member whose disk is wrong from starting again.
func (s *Store) judge(err error) error {
	if err == nil || !damaged(err) {
		return err
	}
	if !s.alone() {
		if noteErr := writeRebuild(s.deps.FS, s.cfg.Dir, rebuildNote{Stage: stageRefused, Reason: oneLine{err}.Error()}); noteErr != nil {
			s.deps.Log.Error("it cannot be noted that this node must not start again", "error", noteErr)
		}
	}
	return fmt.Errorf("%w; %s", oneLine{err}, s.advice())
}

// oneLine is an error whose words are on one line: Pebble's have several, and who
// looks for the line that says what to do finds only the last of them.
type oneLine struct{ error }

// Error implements error.
func (e oneLine) Error() string {
	text := strings.ReplaceAll(e.error.Error(), "\n<corruption detail carrier>", "")
	return strings.ReplaceAll(text, "\n", "; ")
}

// Unwrap is for errors.Is.
func (e oneLine) Unwrap() error { return e.error }
