package admin

import (
	"log"
	"log/slog"
	"strings"
	"time"

	"kafkagrpc/internal/loglimit"
)

// handshakeInterval is how often a handshake that failed is logged: strangers can make one fail with each connection.
const handshakeInterval = time.Second

// errorLog takes what net/http has to say of its connections.
type errorLog struct {
	log        *slog.Logger
	handshakes *loglimit.Limit
}

func newErrorLog(to *slog.Logger) *log.Logger {
	return log.New(errorLog{to, loglimit.New(handshakeInterval)}, "", 0)
}

// Write takes one line.
func (l errorLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	if strings.Contains(text, "TLS handshake error") {
		l.handshakes.Log(l.log, slog.LevelWarn, text)
	} else {
		l.log.Warn(text)
	}
	return len(line), nil
}
