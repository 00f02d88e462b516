package store

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"authswitch/journal"
	"authswitch/payment"
)

// A backup is a checkpoint of one node's state in one file:
//
//	magic 8 | length 4 | head (JSON) | CRC-32C 4 of the head | stream (stream.go)
//
// Every frame of the stream has its own checksum, and its end is a frame: what
// was cut or flipped does not restore.
const (
	backupMagic = "ASbackup"
	maxHead     = 64 << 10
)

// ErrBadBackup is a file that is none, or is damaged.
var ErrBadBackup = errors.New("not a whole backup")

// BackupHead says what a backup is of.
type BackupHead struct {
	Version int            `json:"version"`
	Node    payment.NodeID `json:"node"`
	Taken   time.Time      `json:"taken"`
	Applied uint64         `json:"applied_index"`
	Term    uint64         `json:"term"`
	Members []Member       `json:"members"`
}

const backupVersion = 1

// Backup writes one of this node's state, which has applied everything that was
// decided before the call.
func (s *Store) Backup(ctx context.Context, w io.Writer) (BackupHead, error) {
	if err := s.catchUp(ctx); err != nil {
		return BackupHead{}, err
	}
	head := BackupHead{Version: backupVersion, Node: s.cfg.Node, Taken: time.Unix(0, int64(s.deps.Now())).UTC(), Term: s.raft.CurrentTerm(), Members: book{s}.members()}
	fs, dir := s.deps.FS, s.deps.FS.PathJoin(s.cfg.Dir, "backup"+unfinished)
	if !s.backing.TryLock() {
		return head, fmt.Errorf("%w: another backup is under way", payment.ErrBusy)
	}
	defer s.backing.Unlock()
	if err := fs.RemoveAll(dir); err != nil {
		return head, fmt.Errorf("backup: %w", err)
	}
	defer func() { _ = fs.RemoveAll(dir) }() // at the next start, if not now
	if err := s.replica.checkpoint(dir); err != nil {
		return head, err
	}
	err := withState(fs, dir, func(r journal.Reader, _ *pebble.DB) error {
		m := journal.New(r)
		err := m.Load()
		head.Applied = m.Applied()
		return err
	})
	if err != nil {
		return head, fmt.Errorf("backup: %w", err)
	}
	files, err := checkpointFiles(fs, dir)
	if err != nil {
		return head, fmt.Errorf("backup: %w", err)
	}
	if err := writeHead(w, head); err != nil {
		return head, err
	}
	if err := sendFiles(fs, dir, files, w); err != nil {
		return head, fmt.Errorf("backup: %w", err)
	}
	return head, nil
}

// checkpoint copies the state, by links, into a new directory.
func (r *replica) checkpoint(dir string) error {
	r.stateMu.RLock()
	defer r.stateMu.RUnlock()
	if r.state == nil {
		return payment.ErrUnavailable
	}
	if err := r.state.Flush(); err != nil {
		return fmt.Errorf("checkpoint: flush: %w", err)
	}
	if err := r.state.Checkpoint(dir); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

func writeHead(w io.Writer, head BackupHead) error {
	text, err := json.Marshal(head)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	b := binary.BigEndian.AppendUint32([]byte(backupMagic), uint32(len(text)))
	b = append(b, text...)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)))
	_, err = w.Write(b)
	return err
}

func readHead(r io.Reader) (head BackupHead, err error) {
	start := make([]byte, len(backupMagic)+4)
	if _, err := io.ReadFull(r, start); err != nil || string(start[:len(backupMagic)]) != backupMagic {
		return head, fmt.Errorf("%w: no such head", ErrBadBackup)
	}
	n := binary.BigEndian.Uint32(start[len(backupMagic):])
	if n > maxHead {
		return head, fmt.Errorf("%w: a head of %d bytes", ErrBadBackup, n)
	}
	text := make([]byte, n+4)
	if _, err := io.ReadFull(r, text); err != nil {
		return head, fmt.Errorf("%w: %w", ErrBadBackup, err)
	}
	if crc32.Checksum(text[:n], crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(text[n:]) {
		return head, fmt.Errorf("%w: the head's checksum", ErrBadBackup)
	}
	if err := json.Unmarshal(text[:n], &head); err != nil {
		return head, fmt.Errorf("%w: %w", ErrBadBackup, err)
	}
	if head.Version != backupVersion {
		return head, fmt.Errorf("%w: version %d is not known", ErrBadBackup, head.Version)
	}
	return head, nil
}

// withState opens a state that no store runs on.
func withState(fs vfs.FS, dir string, f func(journal.Reader, *pebble.DB) error) error {
	s := &Store{cfg: Config{}.withDefaults(), deps: Deps{FS: fs}.withDefaults(), down: make(chan struct{})}
	db, err := pebble.Open(dir, s.stateOptions())
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	err = f(stateReader{db}, db)
	if closeErr := db.Close(); err == nil {
		err = closeErr
	}
	return err
}

// Inspect reads a whole backup into a scratch directory, which must not exist,
// and says what it holds. It reads every payment: what it accepts restores.
func Inspect(fs vfs.FS, from io.Reader, scratch string) (BackupHead, journal.Summary, error) {
	if fs == nil {
		fs = vfs.Default
	}
	r := bufio.NewReaderSize(from, frameMax)
	head, err := readHead(r)
	if err != nil {
		return head, journal.Summary{}, err
	}
	if err := receiveFiles(fs, scratch, r); err != nil {
		return head, journal.Summary{}, fmt.Errorf("%w: %w", ErrBadBackup, err)
	}
	if err := checkTables(context.Background(), fs, scratch, 0); err != nil {
		return head, journal.Summary{}, fmt.Errorf("%w: %w", ErrBadBackup, err)
	}
	var summary journal.Summary
	err = withState(fs, scratch, func(r journal.Reader, _ *pebble.DB) error {
		summary, err = journal.Summarize(r)
		return err
	})
	if err == nil && summary.Applied != head.Applied {
		err = fmt.Errorf("%w: its head says entry %d, its state %d", ErrBadBackup, head.Applied, summary.Applied)
	}
	return head, summary, err
}

// ErrNotEmpty means that a restore would overwrite something.
var ErrNotEmpty = errors.New("the node's directory holds a state already")

// Restore makes an empty node's directory one whose cluster begins with a
// backup, fenced. Its members are the configuration's, which need not be those
// the backup was taken of: they start empty and are sent the state.
func Restore(cfg Config, fs vfs.FS, from io.Reader) (BackupHead, journal.Summary, error) {
	if fs == nil {
		fs = vfs.Default
	}
	for _, sub := range [...]string{"log", stateDir, "snapshots"} {
		if names, err := fs.List(fs.PathJoin(cfg.Dir, sub)); err == nil && len(names) > 0 {
			return BackupHead{}, journal.Summary{}, fmt.Errorf("%w: %s", ErrNotEmpty, fs.PathJoin(cfg.Dir, sub))
		}
	}
	if err := fs.MkdirAll(cfg.Dir, 0o700); err != nil {
		return BackupHead{}, journal.Summary{}, fmt.Errorf("restore: %w", err)
	}
	incoming := fs.PathJoin(cfg.Dir, "incoming")
	if err := fs.RemoveAll(incoming); err != nil {
		return BackupHead{}, journal.Summary{}, fmt.Errorf("restore: %w", err)
	}
	head, summary, err := Inspect(fs, from, incoming)
	if err != nil {
		return head, summary, err
	}
	if err := fence(fs, incoming); err != nil {
		return head, summary, err
	}
	summary.Fenced = true
	return head, summary, firstSnapshot(cfg, fs, incoming, head)
}

func fence(fs vfs.FS, dir string) error {
	return withState(fs, dir, func(r journal.Reader, db *pebble.DB) error {
		b := db.NewBatch()
		if err := journal.Fence(r, stateBatch{b}); err != nil {
			return fmt.Errorf("fence: %w", err)
		}
		if err := b.Commit(pebble.NoSync); err != nil {
			return fmt.Errorf("fence: %w", err)
		}
		if err := b.Close(); err != nil {
			return fmt.Errorf("fence: %w", err)
		}
		return db.Flush()
	})
}

// firstSnapshot makes a state a snapshot that Raft begins with; the state
// itself is restored from it at the first start.
func firstSnapshot(cfg Config, fs vfs.FS, state string, head BackupHead) error {
	store, err := newSnapshots(fs, fs.PathJoin(cfg.Dir, "snapshots"))
	if err != nil {
		return err
	}
	s := &Store{cfg: cfg}
	local := raft.ServerAddress(cfg.Address)
	if cfg.Address == "" {
		local = raft.ServerAddress(cfg.Node) // as the memory transport of a lone node names it
	}
	members, err := s.firstMembers(local)
	if err != nil {
		return err
	}
	made, err := store.Create(1, head.Applied, max(head.Term, 1), members, 1, nil)
	if err != nil {
		return err
	}
	k, ok := made.(*sink)
	if !ok {
		return fmt.Errorf("restore: sink of type %T", made)
	}
	if err := fs.Rename(state, fs.PathJoin(k.path, stateDir)); err != nil {
		return errors.Join(fmt.Errorf("restore: %w", err), k.Cancel())
	}
	return k.Close()
}
