package store

import (
	"errors"
	"fmt"
	"time"

	"authswitch/journal"
	"authswitch/payment"
)

// Config of a node's store. Every zero value is usable but Node and Dir.
type Config struct {
	Node payment.NodeID `yaml:"node"`
	Dir  string         `yaml:"data_dir"`
	// Address is where the other members reach this one, and Members are those
	// that the cluster begins with; both are empty where this node is alone.
	Address string   `yaml:"-"`
	Members []Member `yaml:"-"`
	// Join says that this node is to be added to a cluster that exists: it never
	// begins one of its own, and waits to be added.
	Join bool `yaml:"-"`
	// Version is the journal's that this program can apply; a test makes it an
	// older program's.
	Version journal.Version `yaml:"-"`

	HeartbeatTimeout time.Duration `yaml:"heartbeat_timeout"` // 150 ms without a word from the leader, then a member stands for election
	CommitTimeout    time.Duration `yaml:"commit_timeout"`    // 5 s: then a caller is told that the outcome is pending
	StartTimeout     time.Duration `yaml:"start_timeout"`     // 60 s: to apply the log at start
	StallTimeout     time.Duration `yaml:"stall_timeout"`     // 3 s: a write of the log that takes longer stops a member of a cluster
	OverdueMargin    time.Duration `yaml:"overdue_margin"`    // 2 s past the acquirer's timer, then an open intent is reversed
	SweepEvery       time.Duration `yaml:"sweep_every"`       // 1 s between looks for open intents that are overdue
	KeyRetention     time.Duration `yaml:"key_retention"`     // 24 h: idempotency keys are kept at least so long

	QueueCommands     int           `yaml:"queue_commands"`     // 16,384 waiting commands; then payment.ErrBusy
	BatchPace         time.Duration `yaml:"batch_pace"`         // 1 ms; 250 µs for a lone member; for each command of those that left last but the first, in all at most 8 ms, until the next ones leave: under load fewer and larger groups
	BatchesInFlight   int           `yaml:"batches_in_flight"`  // 4; 2 for a lone member Raft entries proposed and not yet applied: the next batch fills meanwhile
	LogMemtableBytes  int64         `yaml:"log_memtable_bytes"` // 16 MiB before the log's memory goes to a file
	LogCacheBytes     int64         `yaml:"log_cache_bytes"`    // 32 MiB of entries in memory for followers
	MemtableBytes     int64         `yaml:"memtable_bytes"`     // 64 MiB of changes before the state goes to a file
	BlockCacheBytes   int64         `yaml:"block_cache_bytes"`  // 128 MiB of the state's blocks in memory, beside two memtables
	SnapshotThreshold int           `yaml:"snapshot_threshold"` // 8,192 entries in the log, then a snapshot
	SnapshotBytes     int64         `yaml:"snapshot_bytes"`     // 32 MiB of entries: what a start after a crash reads again
	TrailingLogs      int           `yaml:"trailing_logs"`      // 2,048 entries kept behind a snapshot, for members that lag
	SnapshotEvery     time.Duration `yaml:"snapshot_every"`     // 30 s: how often the threshold is looked at
}

// MaxNode is how long a node's name can be.
const MaxNode = 64

// Validate reports all faults at once.
func (c Config) Validate() []error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.Node == "" || len(c.Node) > MaxNode {
		fault("store: node: a name of 1 to %d bytes is needed", MaxNode)
	}
	if c.Dir == "" {
		faults = append(faults, errors.New("store: data_dir: a directory is needed"))
	}
	for _, d := range [...]struct {
		name  string
		value time.Duration
	}{
		{"heartbeat_timeout", c.HeartbeatTimeout},
		{"commit_timeout", c.CommitTimeout},
		{"start_timeout", c.StartTimeout},
		{"stall_timeout", c.StallTimeout},
		{"overdue_margin", c.OverdueMargin},
		{"sweep_every", c.SweepEvery},
		{"snapshot_every", c.SnapshotEvery},
		{"batch_pace", c.BatchPace},
	} {
		if d.value < 0 {
			fault("store: %s: %s is negative", d.name, d.value)
		}
	}
	if c.HeartbeatTimeout != 0 && c.HeartbeatTimeout < 20*time.Millisecond {
		fault("store: heartbeat_timeout: %s is less than 20ms", c.HeartbeatTimeout)
	}
	if c.KeyRetention != 0 && c.KeyRetention < 24*time.Hour {
		fault("store: key_retention: %s is less than the 24h that gateways are promised", c.KeyRetention)
	}
	for _, n := range [...]struct {
		name  string
		value int64
	}{
		{"queue_commands", int64(c.QueueCommands)},
		{"batches_in_flight", int64(c.BatchesInFlight)},
		{"log_memtable_bytes", c.LogMemtableBytes},
		{"log_cache_bytes", c.LogCacheBytes},
		{"memtable_bytes", c.MemtableBytes},
		{"block_cache_bytes", c.BlockCacheBytes},
		{"snapshot_threshold", int64(c.SnapshotThreshold)},
		{"snapshot_bytes", c.SnapshotBytes},
		{"trailing_logs", int64(c.TrailingLogs)},
	} {
		if n.value < 0 {
			fault("store: %s: %d is negative", n.name, n.value)
		}
	}
	return faults
}

// WithDefaults fills in what was left zero, as Start does and `config show`
// prints.
func (c Config) WithDefaults() Config { return c.withDefaults() }

func (c Config) withDefaults() Config {
	set(&c.HeartbeatTimeout, 150*time.Millisecond)
	set(&c.CommitTimeout, 5*time.Second)
	set(&c.StartTimeout, 60*time.Second)
	set(&c.StallTimeout, 3*time.Second)
	set(&c.OverdueMargin, 2*time.Second)
	set(&c.SweepEvery, time.Second)
	set(&c.KeyRetention, 24*time.Hour)
	set(&c.QueueCommands, 16_384)
	set(&c.BatchesInFlight, 4)
	set(&c.BatchPace, time.Millisecond) // 1,000 commands a second of the whole cluster pass without a wait
	set(&c.LogMemtableBytes, 16<<20)
	set(&c.LogCacheBytes, 32<<20)
	set(&c.MemtableBytes, 64<<20)
	set(&c.BlockCacheBytes, 128<<20)
	set(&c.SnapshotThreshold, 8_192)
	set(&c.SnapshotBytes, 32<<20)
	set(&c.TrailingLogs, 2_048)
	set(&c.SnapshotEvery, 30*time.Second)
	set(&c.Version, journal.NewestVersion)
	return c
}

func set[T comparable](field *T, otherwise T) {
	var zero T
	if *field == zero {
		*field = otherwise
	}
}
