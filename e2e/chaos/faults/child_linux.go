package faults

import "syscall"

// childAttributes end an instance with the test process, also where that is killed and no cleanup runs.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
