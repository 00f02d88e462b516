package server

import (
	"fmt"
	"net"
	"syscall"
)

// credentials asks the kernel who opened the other end: unix(7), SO_PEERCRED.
func credentials(u *net.UnixConn) (uid uint32, pid int32, err error) {
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, 0, fmt.Errorf("peer credentials: %w", err)
	}
	var c *syscall.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		c, failed = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return 0, 0, fmt.Errorf("peer credentials: %w", err)
	}
	if failed != nil {
		return 0, 0, fmt.Errorf("peer credentials: %w", failed)
	}
	return c.Uid, c.Pid, nil
}
