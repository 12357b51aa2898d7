//go:build !linux

package realkafka

import "syscall"

func childAttributes() *syscall.SysProcAttr { return nil }
