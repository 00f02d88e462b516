package bubble_test

import (
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk is one life's view of a member's file system: its syncs take their time,
// or lie. What is written goes into the world's trace.
type disk struct {
	vfs.FS
	m *member
}

// moods are what a member's disk does beside storing; they outlive a process.
type moods struct {
	syncs atomic.Int64 // how long one sync takes, in nanoseconds
	lies  atomic.Bool  // a sync says yes and keeps nothing
}

func (d *disk) Unwrap() vfs.FS { return d.FS }

func (d *disk) file(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &diskFile{File: f, d: d, name: name}, nil
}

func (d *disk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	d.m.w.trace.add('c', string(d.m.id), name, nil)
	f, err := d.FS.Create(name, c)
	return d.file(name, f, err)
}

func (d *disk) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.FS.OpenReadWrite(name, c, o...)
	return d.file(name, f, err)
}

func (d *disk) OpenDir(name string) (vfs.File, error) {
	f, err := d.FS.OpenDir(name)
	return d.file(name, f, err)
}

func (d *disk) ReuseForWrite(before, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	d.m.w.trace.add('u', string(d.m.id), name, nil)
	f, err := d.FS.ReuseForWrite(before, name, c)
	return d.file(name, f, err)
}

type diskFile struct {
	vfs.File
	d    *disk
	name string
}

func (f *diskFile) Write(b []byte) (int, error) {
	f.d.m.w.trace.add('w', string(f.d.m.id), f.name, b)
	return f.File.Write(b)
}

func (f *diskFile) Sync() error {
	if lied := f.d.wait(f.name); lied {
		return nil
	}
	return f.File.Sync()
}

func (f *diskFile) SyncData() error {
	if lied := f.d.wait(f.name); lied {
		return nil
	}
	return f.File.SyncData()
}

// wait is what a sync takes; it says whether the disk lies.
func (d *disk) wait(name string) (lied bool) {
	d.m.w.trace.add('s', string(d.m.id), name, nil)
	if t := d.m.syncs.Load(); t > 0 {
		time.Sleep(time.Duration(t))
	}
	return d.m.lies.Load()
}
