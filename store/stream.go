package store

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A checkpoint travels as frames, so that neither a cut nor a flipped bit can
// pass for the end of a file:
//
//	kind 1 | length 4 | payload | CRC-32C 4     of all before it in the frame
//
// kinds: file (its name), data (up to 64 KiB of the file), end (nothing).
const (
	frameFile = 'F'
	frameData = 'D'
	frameEnd  = 'E'
	frameHead = 5
	frameTail = 4
	frameMax  = 64 << 10
)

var errBadStream = errors.New("snapshot stream is damaged")

type checkpointFile struct {
	name string
	size int64
}

func checkpointFiles(fs vfs.FS, dir string) ([]checkpointFile, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(names, strings.Compare)
	var files []checkpointFile
	for _, name := range names {
		info, err := fs.Stat(fs.PathJoin(dir, name))
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			files = append(files, checkpointFile{name, info.Size()})
		}
	}
	return files, nil
}

// streamSize is how long the stream of these files is: Raft says so before it
// sends the first byte.
func streamSize(files []checkpointFile) int64 {
	const overhead = frameHead + frameTail
	size := int64(overhead)
	for _, f := range files {
		frames := (f.size + frameMax - 1) / frameMax
		size += overhead + int64(len(f.name)) + f.size + frames*overhead
	}
	return size
}

// streamFiles writes the stream into a pipe; closing the reader ends the
// writer.
func streamFiles(fs vfs.FS, dir string, files []checkpointFile) io.ReadCloser {
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(sendFiles(fs, dir, files, w)) }()
	return r
}

func sendFiles(fs vfs.FS, dir string, files []checkpointFile, w io.Writer) error {
	frame := make([]byte, 0, frameHead+frameMax+frameTail)
	data := make([]byte, frameMax)
	for _, f := range files {
		if _, err := w.Write(appendFrame(frame, frameFile, []byte(f.name))); err != nil {
			return err
		}
		if err := sendFile(fs, fs.PathJoin(dir, f.name), f.size, frame, data, w); err != nil {
			return fmt.Errorf("send %s: %w", f.name, err)
		}
	}
	_, err := w.Write(appendFrame(frame, frameEnd, nil))
	return err
}

func sendFile(fs vfs.FS, path string, left int64, frame, data []byte, w io.Writer) error {
	f, err := fs.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return err
	}
	for left > 0 && err == nil {
		part := data[:min(left, frameMax)]
		if _, err = io.ReadFull(f, part); err == nil {
			left -= int64(len(part))
			_, err = w.Write(appendFrame(frame, frameData, part))
		}
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

func appendFrame(b []byte, kind byte, payload []byte) []byte {
	b = append(b[:0], kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, payload...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// receiveFiles writes a stream's files into a new directory and syncs them.
func receiveFiles(fs vfs.FS, dir string, from io.Reader) (err error) {
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	r := bufio.NewReaderSize(from, frameMax)
	frame := make([]byte, frameHead+frameMax+frameTail)
	var f vfs.File
	finish := func() error {
		if f == nil {
			return nil
		}
		err := f.Sync()
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		f = nil
		return err
	}
	defer func() {
		if closeErr := finish(); err == nil {
			err = closeErr
		}
	}()
	for {
		kind, payload, err := readFrame(r, frame)
		if err != nil {
			return err
		}
		switch {
		case kind == frameEnd && len(payload) == 0:
			if err := finish(); err != nil {
				return err
			}
			return syncDir(fs, dir)
		case kind == frameData && f != nil:
			if _, err := f.Write(payload); err != nil {
				return err
			}
		case kind == frameFile && plainName(string(payload)):
			if err := finish(); err != nil {
				return err
			}
			if f, err = fs.Create(fs.PathJoin(dir, string(payload)), vfs.WriteCategoryUnspecified); err != nil {
				return err
			}
		default:
			return errBadStream
		}
	}
}

func readFrame(r io.Reader, frame []byte) (kind byte, payload []byte, err error) {
	if _, err := io.ReadFull(r, frame[:frameHead]); err != nil {
		return 0, nil, fmt.Errorf("%w: %w", errBadStream, err)
	}
	n := binary.BigEndian.Uint32(frame[1:])
	if n > frameMax {
		return 0, nil, errBadStream
	}
	end := frameHead + int(n)
	if _, err := io.ReadFull(r, frame[frameHead:end+frameTail]); err != nil {
		return 0, nil, fmt.Errorf("%w: %w", errBadStream, err)
	}
	if crc32.Checksum(frame[:end], crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(frame[end:]) {
		return 0, nil, errBadStream
	}
	return frame[0], frame[frameHead:end], nil
}

// plainName keeps a stream inside its directory.
func plainName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\\\x00")
}

func readFile(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return b, err
}

func writeFile(fs vfs.FS, path string, b []byte) error {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

func syncDir(fs vfs.FS, path string) error {
	d, err := fs.OpenDir(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	return err
}
