package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// A snapshot is a Pebble checkpoint of the state — hard links, some
// milliseconds — in a directory of its own beside its description. Raft's view
// of it is a stream of the files (stream.go), which is made only when a node
// that lags asks for it. A snapshot that was received is the stream itself.
//
//	snapshots/<id>/meta.json    what Raft must know
//	snapshots/<id>/state/       the checkpoint, or
//	snapshots/<id>/stream       the stream as received
type snapshots struct {
	fs  vfs.FS
	dir string
	mu  sync.Mutex // one Create at a time
}

const (
	keptSnapshots = 2
	metaFile      = "meta.json"
	streamFile    = "stream"
	stateDir      = "state"
	unfinished    = ".unfinished"
)

func newSnapshots(fs vfs.FS, dir string) (*snapshots, error) {
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("snapshots: %w", err)
	}
	names, err := fs.List(dir)
	if err != nil {
		return nil, fmt.Errorf("snapshots: %w", err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, unfinished) {
			if err := fs.RemoveAll(fs.PathJoin(dir, name)); err != nil {
				return nil, fmt.Errorf("snapshots: %w", err)
			}
		}
	}
	return &snapshots{fs: fs, dir: dir}, nil
}

// Create implements raft.SnapshotStore.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration, configurationIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	if version != 1 {
		return nil, fmt.Errorf("snapshots: version %d is not known", version)
	}
	s.mu.Lock()
	id := snapshotID(index, term)
	k := &sink{store: s, path: s.fs.PathJoin(s.dir, id+unfinished), meta: raft.SnapshotMeta{
		Version: version, ID: id, Index: index, Term: term, Configuration: configuration, ConfigurationIndex: configurationIndex,
	}}
	err := s.fs.RemoveAll(k.path)
	if err == nil {
		err = s.fs.MkdirAll(k.path, 0o700)
	}
	if err != nil {
		s.mu.Unlock()
		return nil, fmt.Errorf("snapshots: %w", err)
	}
	return k, nil
}

// List implements raft.SnapshotStore: newest first.
func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return nil, fmt.Errorf("snapshots: %w", err)
	}
	var list []*raft.SnapshotMeta
	for _, name := range names {
		if strings.HasSuffix(name, unfinished) {
			continue
		}
		meta, err := s.meta(name)
		if err != nil {
			return nil, err
		}
		list = append(list, meta)
	}
	slices.SortFunc(list, func(a, b *raft.SnapshotMeta) int { return strings.Compare(b.ID, a.ID) })
	return list, nil
}

func (s *snapshots) meta(id string) (*raft.SnapshotMeta, error) {
	b, err := readFile(s.fs, s.fs.PathJoin(s.dir, id, metaFile))
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", id, err)
	}
	meta := &raft.SnapshotMeta{}
	if err := json.Unmarshal(b, meta); err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", id, err)
	}
	if meta.ID != id || id != snapshotID(meta.Index, meta.Term) {
		return nil, fmt.Errorf("snapshot %s: %w", id, errDescription)
	}
	return meta, nil
}

// errDescription is a description that is not its snapshot's. It has no checksum,
// but where it would do most harm the directory's name says the same.
var errDescription = errors.New("the description is of another snapshot")

func snapshotID(index, term uint64) string { return fmt.Sprintf("%020d-%020d", index, term) }

// Open implements raft.SnapshotStore.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, err := s.meta(id)
	if err != nil {
		return nil, nil, err
	}
	stream, err := s.fs.Open(s.fs.PathJoin(s.dir, id, streamFile))
	if err == nil {
		return meta, stream, nil
	}
	files, err := checkpointFiles(s.fs, s.fs.PathJoin(s.dir, id, stateDir))
	if err != nil {
		return nil, nil, fmt.Errorf("snapshot %s: %w", id, err)
	}
	return meta, streamFiles(s.fs, s.fs.PathJoin(s.dir, id, stateDir), files), nil
}

// prune removes all but the newest.
func (s *snapshots) prune() error {
	list, err := s.List()
	if err != nil {
		return err
	}
	for _, meta := range list[min(keptSnapshots, len(list)):] {
		if err := s.fs.RemoveAll(s.fs.PathJoin(s.dir, meta.ID)); err != nil {
			return fmt.Errorf("snapshots: %w", err)
		}
	}
	return nil
}

// sink is one snapshot being made: by Persist, which puts a checkpoint into its
// directory, or by a leader's stream.
type sink struct {
	store  *snapshots
	path   string
	meta   raft.SnapshotMeta
	stream vfs.File
	done   bool
}

// ID implements raft.SnapshotSink.
func (k *sink) ID() string { return k.meta.ID }

// Write implements raft.SnapshotSink.
func (k *sink) Write(b []byte) (int, error) {
	if k.stream == nil {
		f, err := k.store.fs.Create(k.store.fs.PathJoin(k.path, streamFile), vfs.WriteCategoryUnspecified)
		if err != nil {
			return 0, err
		}
		k.stream = f
	}
	k.meta.Size += int64(len(b))
	return k.stream.Write(b)
}

// Close implements raft.SnapshotSink: the snapshot counts from here.
func (k *sink) Close() error {
	if k.done {
		return nil
	}
	err := k.finish()
	if err != nil {
		return errors.Join(fmt.Errorf("snapshot %s: %w", k.meta.ID, err), k.Cancel())
	}
	k.done = true
	err = k.store.prune()
	k.store.mu.Unlock()
	return err
}

func (k *sink) finish() error {
	fs := k.store.fs
	if k.stream != nil {
		err := k.stream.Sync()
		if closeErr := k.stream.Close(); err == nil {
			err = closeErr
		}
		k.stream = nil
		if err != nil {
			return err
		}
	} else {
		files, err := checkpointFiles(fs, fs.PathJoin(k.path, stateDir))
		if err != nil {
			return err
		}
		k.meta.Size = streamSize(files)
	}
	b, err := json.Marshal(&k.meta)
	if err != nil {
		return err
	}
	if err := writeFile(fs, fs.PathJoin(k.path, metaFile), b); err != nil {
		return err
	}
	if err := syncDir(fs, k.path); err != nil {
		return err
	}
	final := fs.PathJoin(k.store.dir, k.meta.ID)
	if err := fs.RemoveAll(final); err != nil {
		return err
	}
	if err := fs.Rename(k.path, final); err != nil {
		return err
	}
	return syncDir(fs, k.store.dir)
}

// Cancel implements raft.SnapshotSink.
func (k *sink) Cancel() error {
	if k.done {
		return nil
	}
	k.done = true
	defer k.store.mu.Unlock()
	if k.stream != nil {
		_ = k.stream.Close()
	}
	return k.store.fs.RemoveAll(k.path)
}

// Snapshot implements raft.FSM and returns at once.
func (r *replica) Snapshot() (raft.FSMSnapshot, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return snapshot{r}, r.failed
}

// snapshot is the state at Persist, which is at or after the index that Raft
// noted: entries up to the applied index are skipped when they come again.
type snapshot struct{ r *replica }

// Persist implements raft.FSMSnapshot. The flush makes the state durable up to
// at least the snapshot's index before Raft may truncate the log to it.
func (s snapshot) Persist(to raft.SnapshotSink) error {
	k, ok := to.(*sink)
	if !ok {
		return fmt.Errorf("snapshot: sink of type %T", to)
	}
	s.r.stateMu.RLock()
	defer s.r.stateMu.RUnlock()
	s.r.unsaved.Store(0)
	if err := s.r.state.Flush(); err != nil {
		return fmt.Errorf("snapshot: flush: %w", err)
	}
	if err := s.r.state.Checkpoint(s.r.fs.PathJoin(k.path, stateDir)); err != nil {
		return fmt.Errorf("snapshot: checkpoint: %w", err)
	}
	s.r.saved.Store(int64(time.Since(s.r.began)))
	return nil
}

// Release implements raft.FSMSnapshot.
func (snapshot) Release() {}

// Restore implements raft.FSM: the stream's files become the state.
func (r *replica) Restore(from io.ReadCloser) error {
	// Whoever reads keys for the old machine needs mu to finish.
	r.closing.Store(true)
	r.reading.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stateMu.Lock()
	defer r.stateMu.Unlock()
	err := r.restore(from)
	if err != nil {
		// The state may be gone by now: this node must not go on.
		r.stop(fmt.Errorf("restore: %w", err))
	}
	return err
}

func (r *replica) restore(from io.Reader) error {
	incoming, state := r.fs.PathJoin(r.dir, "incoming"), r.fs.PathJoin(r.dir, stateDir)
	if err := r.fs.RemoveAll(incoming); err != nil {
		return err
	}
	if err := receiveFiles(r.fs, incoming, from); err != nil {
		return err
	}
	// Frames have checksums of what the sender's disk gave it: a table that was
	// damaged there must not become a state here.
	if err := checkTables(context.Background(), r.fs, incoming, 0); err != nil {
		return err
	}
	if err := r.close(); err != nil {
		return err
	}
	if err := r.fs.RemoveAll(state); err != nil {
		return err
	}
	if err := r.fs.Rename(incoming, state); err != nil {
		return err
	}
	if err := syncDir(r.fs, r.dir); err != nil {
		return err
	}
	db, err := r.open(state)
	if err != nil {
		return err
	}
	r.state, r.failed = db, nil
	return r.load()
}
