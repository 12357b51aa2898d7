package grpcin

import (
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/synctest"
)

// A request is read a window ahead of the call, or as far as the message that it waits for goes; when the call has ended, no further.
func TestWebBodyIsReadAsItIsTaken(t *testing.T) {
	const (
		small, large = 100 << 10, 5 * streamWindow
		piece        = 16 << 10 // of a reading
	)
	synctest.Test(t, func(t *testing.T) {
		from, to := io.Pipe()
		go func() {
			for _, size := range []int{small, small, small, small, large, small} {
				_, _ = to.Write(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(size)), make([]byte, size)...))
			}
		}()
		b, read := newWebBody(from), 0
		ended := make(chan error, 1)
		go func() {
			buffer := make([]byte, piece)
			for {
				n, err := b.Read(buffer)
				if read += n; err != nil {
					ended <- err
					return
				}
			}
		}()
		wants := func(what string, least, most int) {
			t.Helper()
			synctest.Wait()
			if read < least || read > most+piece {
				t.Errorf("%s: %d bytes are read, want %d to %d", what, read, least, most)
			}
		}
		wants("nothing is taken", streamWindow, streamWindow)
		b.taken(true)
		wants("one is taken", small+streamWindow, small+streamWindow+framePrefix)
		for range 3 {
			b.taken(true)
			synctest.Wait()
		}
		wants("the large one is begun", 4*small+streamWindow, 4*small+streamWindow+4*framePrefix)
		b.wait()
		wants("the large one is waited for", 4*small+large, 4*small+large+5*framePrefix)
		b.taken(true)
		wants("all are read", 5*small+large, 5*small+large+6*framePrefix)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
	})
}
