//go:build !linux

package faults

import "syscall"

// childAttributes are for systems that cannot end a child with its parent.
func childAttributes() *syscall.SysProcAttr { return nil }
