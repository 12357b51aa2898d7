package gokalog_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"kafkagrpc/internal/gokalog"
)

// goka says of each partition what went wrong: the log has it once. Another sentence is another fault.
func TestLinesAboutErrorsAreFew(t *testing.T) {
	t.Parallel()
	const partitions = 100
	var out bytes.Buffer
	log := gokalog.New(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	for i := range partitions {
		log.Printf(fmt.Sprintf("[Processor g > Partition %d] ", i)+"Error stopping %d: %v", i, list{errors.New("refused"), errors.New("refused")})
		log.Printf("[Processor g] partition %d is there", i)
	}
	log.Printf("[Processor g] Error closing: %v", errors.New("gone"))
	for text, want := range map[string]int{
		`level=WARN msg="[Processor g > Partition 0] Error stopping 0: refused (and 1 more like this)" not_shown_before=0`: 1,
		`level=WARN msg="[Processor g] Error closing: gone"`:                                                               1,
		`level=DEBUG msg="[Processor g] partition`:                                                                         partitions,
	} {
		if n := strings.Count(out.String(), text); n != want {
			t.Errorf("%d lines with %s, want %d", n, text, want)
		}
	}
	if n := strings.Count(out.String(), "level=WARN"); n >= partitions {
		t.Errorf("%d warnings", n)
	}
}
