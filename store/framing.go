package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pebble's WAL and its MANIFEST, the list of its tables, are records one behind
// the other. One that is not what was written Pebble takes for the end, as it is
// after a power cut: it opens without what follows, entries of the log and votes
// among it, and removes the tables that are then in no list. So these files are
// read before it opens them: what whole records follow was not the end.
//
// A damaged last record cannot be told from the end. What the log loses by it the
// other members know (ErrLess); the state is written again from the log.

// errDamagedRecord is a record of a WAL or a MANIFEST that is not what was written.
var errDamagedRecord = errors.New("damaged record")

// A file is blocks of 32 KiB, and those are chunks, which cross none:
//
//	checksum 4 | length 2 | type 1 | of a WAL: its number 4 [how much was synced 8] | payload
//
// with zeros where no head fits any more. A record is a full chunk, or a first and
// those that belong to it. A Pebble's first WAL has the shorter head.
type framing struct {
	lowest, highest byte // types of its chunks: four of a form, full, first, middle, last
	// unsynced is how many records a power cut may leave behind one that it lost.
	unsynced int
}

const (
	framingBlock = 32 << 10
	longestHead  = 19
	maskedBy     = 0xa282ead8 // of the checksum, as in LevelDB
)

// Each change of the list is synced before the next. A WAL has two who write, and
// each waits for its sync: Raft, and what shortens the log behind a snapshot.
func framingOfManifest() framing { return framing{lowest: 1, highest: 4} }
func framingOfWAL() framing      { return framing{lowest: 5, highest: 12, unsynced: 2} }

// begins says whether a record begins with a chunk of a type.
func begins(kind byte) bool { return kind%4 == 1 || kind%4 == 2 }

// checkFraming reads the records of a Pebble that is not open.
func checkFraming(files vfs.FS, dir string) error {
	described, err := pebble.Peek(dir, files)
	if err != nil {
		return fmt.Errorf("look into %s: %w", dir, err)
	}
	if !described.Exists {
		return nil
	}
	if err := framingOfManifest().check(files, described.ManifestFilename, 0); err != nil {
		return err
	}
	names, err := files.List(dir)
	if err != nil {
		return fmt.Errorf("look into %s: %w", dir, err)
	}
	for _, name := range names {
		digits, wal := strings.CutSuffix(name, ".log")
		number, err := strconv.ParseUint(digits, 10, 64)
		if !wal || err != nil {
			continue
		}
		if err := framingOfWAL().check(files, files.PathJoin(dir, name), uint32(number)); err != nil {
			return err
		}
	}
	return nil
}

// check refuses a file in which more whole records follow a broken one than a
// power cut can leave. A WAL's file was another's before: its chunks have another
// number.
func (f framing) check(files vfs.FS, path string, number uint32) error {
	b, err := readFile(files, path)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	end := f.end(b, number)
	follow := 0
	for at := end + 1; at < len(b); {
		n := f.chunk(b, at, number)
		if n > 0 && begins(b[at+6]) {
			if follow++; follow > f.unsynced {
				return fmt.Errorf("%w: %s at %d", errDamagedRecord, path, end)
			}
		}
		at += max(n, 1)
	}
	return nil
}

// end is where the chunks end that follow each other from the beginning on.
func (f framing) end(b []byte, number uint32) int {
	at := 0
	for at < len(b) {
		n := f.chunk(b, at, number)
		if room := framingBlock - at%framingBlock; n == 0 && room < longestHead && len(bytes.Trim(b[at:min(at+room, len(b))], "\x00")) == 0 {
			n = room
		}
		if n == 0 {
			return at
		}
		at += n
	}
	return at
}

// chunk is how long the chunk is that begins here; 0: none does.
func (f framing) chunk(b []byte, at int, number uint32) int {
	room := min(framingBlock-at%framingBlock, len(b)-at)
	if room < 7 || b[at+6] < f.lowest || b[at+6] > f.highest {
		return 0
	}
	head := [...]int{7, 11, longestHead}[(b[at+6]-1)/4]
	length := head + int(binary.LittleEndian.Uint16(b[at+4:]))
	if length > room || head > 7 && binary.LittleEndian.Uint32(b[at+7:]) != number {
		return 0
	}
	sum := crc32.Checksum(b[at+6:at+length], crc32.MakeTable(crc32.Castagnoli))
	if binary.LittleEndian.Uint32(b[at:]) != (sum>>15|sum<<17)+maskedBy {
		return 0
	}
	return length
}
