package processor_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"google.golang.org/grpc/codes"
)

// A slow call keeps the offset back. What was answered behind it is not answered again after a crash, because the
// metadata of the offset says so; without that it is, though without being executed again.
func TestRepliesBehindASlowCallAfterACrash(t *testing.T) {
	t.Parallel()
	const n = 50
	tests := []struct {
		name    string
		forget  bool // the metadata
		answers int  // of each call behind the slow one
	}{
		{"with the metadata", false, 1},
		{"without it", true, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1)
			open := b.service.gateFor("slow")
			c := b.startChild(t, 0)
			b.send(attempt("slow", "slow"), "slow")
			b.service.wait(t, 1)
			for i := range n {
				key := strconv.Itoa(i)
				b.send(attempt(key, key), key)
			}
			b.results(n)

			// The slow call's message is at 0, its end at 1, the others have two records each.
			progress := binary.AppendUvarint([]byte{0, 1}, 2*n+1)
			progress = binary.BigEndian.AppendUint32(progress, crc32.ChecksumIEEE(progress))
			want := "finished/1:" + base64.RawStdEncoding.EncodeToString(progress)
			b.eventually("the metadata "+want, func() bool {
				offsets, err := b.admin.FetchOffsets(context.Background(), b.remote.Group)
				if err != nil {
					t.Fatal(err)
				}
				at, _ := offsets.Lookup(requests, 0)
				return at.At == 0 && at.Metadata == want
			})
			c.kill()
			if test.forget {
				b.forged = true
				b.evict(c.dir) // a group with members takes no commit from outside
				var offsets kadm.Offsets
				offsets.Add(kadm.Offset{Topic: requests, Partition: 0, At: 0, LeaderEpoch: -1})
				if err := b.admin.CommitAllOffsets(context.Background(), b.remote.Group, offsets); err != nil {
					t.Fatal(err)
				}
			}
			open()
			b.ready(b.start(c.dir))
			answers := b.answers()
			only(t, answers, "slow").check(t, codes.OK, "", "slow")
			executed := []string{"slow", "slow"}
			for i := range n {
				key := strconv.Itoa(i)
				executed = append(executed, key)
				if got := len(answers[key]); got != test.answers {
					t.Errorf("%s has %d answers, want %d", key, got, test.answers)
				}
				for _, r := range answers[key] {
					r.check(t, codes.OK, "", key)
				}
			}
			b.wantExecuted(executed...)
		})
	}
}

// The end of a request is finished as soon as it is read. It must come again with the message that it belongs to.
func TestUnknownMethodInFlightAtACrash(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	open := b.service.gate()
	c := b.startChild(t, 0)
	b.send(mystery("k", "a"), "one")
	b.service.wait(t, 1)
	// A record behind it that is finished makes the metadata say something.
	refused := attempt("refused", "refused")
	refused.Service = ""
	b.send(refused, "")
	b.results(1)
	b.eventually("some metadata", func() bool {
		offsets, err := b.admin.FetchOffsets(context.Background(), b.remote.Group)
		if err != nil {
			t.Fatal(err)
		}
		at, _ := offsets.Lookup(requests, 0)
		return at.Metadata != ""
	})
	c.kill()
	open()
	b.ready(b.start(c.dir))
	b.results(1)["a"].check(t, codes.OK, "", "one")
	b.committed()
	if got := len(b.service.received()); got != 2 {
		t.Errorf("%d calls, want 2", got)
	}
}
