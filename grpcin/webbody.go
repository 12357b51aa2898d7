package grpcin

import (
	"encoding/binary"
	"io"
	"sync"

	"google.golang.org/grpc"
)

// webBody is the request of a call that net/http serves. grpc-go reads it as fast as it comes, and keeps what the call has not taken; so it
// is read no further than a window ahead of the call, or than the message that the call waits for.
type webBody struct {
	io.ReadCloser

	mu      sync.Mutex
	changed sync.Cond // its L is mu
	waiting bool      // the call waits for a message
	closed  bool
	sizes   []int // of whole messages, with their prefixes, that the call has not taken
	ahead   int   // bytes that it has not taken
	prefix  []byte
	missing int // bytes of a message whose prefix is known
	size    int // of that message
}

// framePrefix is what precedes each message: whether it is compressed, and its length.
const framePrefix = 5

type webBodyKey struct{}

func newWebBody(of io.ReadCloser) *webBody {
	b := &webBody{ReadCloser: of, waiting: true}
	b.changed.L = &b.mu
	return b
}

// Read implements io.Reader.
func (b *webBody) Read(into []byte) (int, error) {
	b.mu.Lock()
	for !b.closed && b.ahead >= streamWindow && !(b.waiting && len(b.sizes) == 0) {
		b.changed.Wait()
	}
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return 0, io.ErrClosedPipe
	}
	n, err := b.ReadCloser.Read(into)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count(into[:n])
	return n, err
}

// count is called under mu.
func (b *webBody) count(read []byte) {
	b.ahead += len(read)
	for len(read) > 0 {
		if b.missing == 0 {
			n := min(framePrefix-len(b.prefix), len(read))
			b.prefix, read = append(b.prefix, read[:n]...), read[n:]
			if len(b.prefix) < framePrefix {
				return
			}
			b.missing = int(binary.BigEndian.Uint32(b.prefix[1:]))
			b.size, b.prefix = framePrefix+b.missing, b.prefix[:0]
		}
		n := min(b.missing, len(read))
		b.missing, read = b.missing-n, read[n:]
		if b.missing == 0 {
			b.sizes = append(b.sizes, b.size)
		}
	}
}

// wait says that the call waits for a message, taken that it has one, or gets none.
func (b *webBody) wait() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = true
	b.changed.Broadcast()
}

func (b *webBody) taken(one bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = false
	if one && len(b.sizes) > 0 {
		b.ahead -= b.sizes[0]
		b.sizes = b.sizes[1:]
	}
	b.changed.Broadcast()
}

// Close implements io.Closer.
func (b *webBody) Close() error {
	b.mu.Lock()
	b.closed = true
	b.changed.Broadcast()
	b.mu.Unlock()
	return b.ReadCloser.Close()
}

// pacedStream is a call that takes messages of a webBody.
type pacedStream struct {
	grpc.ServerStream
	body *webBody
}

// RecvMsg implements grpc.ServerStream.
func (p pacedStream) RecvMsg(m any) error {
	p.body.wait()
	err := p.ServerStream.RecvMsg(m)
	p.body.taken(err == nil)
	return err
}

// pace is an interceptor for calls that net/http serves.
func pace(service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if body, ok := stream.Context().Value(webBodyKey{}).(*webBody); ok {
		stream = pacedStream{stream, body}
	}
	return handler(service, stream)
}
