package grpcin

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"math"
	"net"
	"strings"
	"sync/atomic"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"kafkagrpc/wire"
)

// A header list is what HTTP/2 sends at once: the initial metadata of a call, or its status with the trailers. A caller may
// announce how large a one it takes. grpc-go cuts a call whose list is larger, and with it the status, and does not tell what was
// announced; so it is read here, on the way of the bytes to grpc-go.

// maxHeaderList is what callers are told that this side takes. It has been grpc-go's default, which may become a thousandth of it.
const maxHeaderList = 16 << 20

// listening are credentials that read along how connections begin.
type listening struct {
	credentials.TransportCredentials
	web     *web        // nil: there are no browsers
	secured *tls.Config // nil without TLS
}

// ServerHandshake implements credentials.TransportCredentials.
func (l listening) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	begin := l.TransportCredentials.ServerHandshake
	if l.web != nil {
		begin = func(raw net.Conn) (net.Conn, credentials.AuthInfo, error) { return l.web.begin(raw, l.secured) }
	}
	conn, info, err := begin(raw)
	if err != nil {
		return nil, nil, err
	}
	heard := &heardConn{Conn: conn}
	heard.headerList.Store(math.MaxInt)
	return heard, heardInfo{info, heard}, nil
}

// Clone implements credentials.TransportCredentials.
func (l listening) Clone() credentials.TransportCredentials {
	return listening{l.TransportCredentials.Clone(), l.web, l.secured}
}

// heardInfo leads from a call to its connection.
type heardInfo struct {
	credentials.AuthInfo
	conn *heardConn
}

// heardConn is a connection whose first bytes are read along.
type heardConn struct {
	net.Conn
	headerList atomic.Int64 // the most that its client takes

	// Of the one goroutine that reads.
	begun []byte
	heard bool // there is nothing more to learn
}

// Read implements net.Conn.
func (c *heardConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if !c.heard {
		c.hear(b[:n])
	}
	return n, err
}

// hear looks for the SETTINGS, which every client begins with.
func (c *heardConn) hear(b []byte) {
	const (
		preface = len(http2.ClientPreface)
		header  = 9
		longest = 1 << 14 // a frame that nobody has allowed to be longer
	)
	c.begun = append(c.begun, b...)
	if len(c.begun) < preface+header {
		return
	}
	first := c.begun[preface:]
	h, err := http2.ReadFrameHeader(bytes.NewReader(first))
	if err == nil && h.Length <= longest && len(first) < header+int(h.Length) {
		return // there is more to come
	}
	framer := http2.NewFramer(nil, bytes.NewReader(first))
	framer.SetMaxReadFrameSize(longest)
	frame, _ := framer.ReadFrame() // grpc-go reads it, too, and says what is wrong with it
	if settings, ok := frame.(*http2.SettingsFrame); ok {
		if most, announced := settings.Value(http2.SettingMaxHeaderListSize); announced {
			c.headerList.Store(int64(most))
		}
	}
	c.heard, c.begun = true, nil
}

// headerListOf is the most that the caller takes.
func headerListOf(ctx context.Context) int {
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(heardInfo); ok {
			return int(info.conn.headerList.Load())
		}
	}
	return math.MaxInt
}

// fieldSize is what a field takes of a header list.
func fieldSize(name, value string) int {
	if strings.HasSuffix(name, "-bin") {
		return len(name) + base64.RawStdEncoding.EncodedLen(len(value)) + 32
	}
	return len(name) + len(value) + 32
}

// framed is what grpc-go adds to a header list, at most.
func framed(ctx context.Context) int {
	size := fieldSize(":status", "200") + fieldSize("grpc-encoding", "identity") + fieldSize("content-type", "application/grpc")
	for _, value := range metadata.ValueFromIncomingContext(ctx, "content-type") {
		size += len(value)
	}
	return size
}

// fitMetadata leaves out what the caller would not take.
func fitMetadata(ctx context.Context, m wire.Metadata) (_ wire.Metadata, left int) {
	most := headerListOf(ctx)
	if most == math.MaxInt {
		return m, 0
	}
	return m.Within(most-framed(ctx), func(f wire.Field) int { return fieldSize(f.Name, f.Value) })
}

// fitStatus leaves out what the caller would not take: trailers, and then the end of the message.
func fitStatus(ctx context.Context, message string, trailers wire.Metadata) (_ string, _ wire.Metadata, left int) {
	most := headerListOf(ctx)
	if most == math.MaxInt {
		return message, trailers, 0
	}
	most -= framed(ctx) + fieldSize("grpc-status", "4294967295") + fieldSize("grpc-message", "")
	message, size := wire.ClipMessage(message, most)
	trailers, left = trailers.Within(most-size, func(f wire.Field) int { return fieldSize(f.Name, f.Value) })
	return message, trailers, left
}
