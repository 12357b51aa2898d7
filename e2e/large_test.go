package e2e

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const mebi = 1 << 20

// allowLarge lets messages and results of the seed's configuration be as large as 20 MiB.
func (w *world) allowLarge() {
	w.t.Helper()
	path := filepath.Join(w.dir, "zilla.yaml")
	b, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	text := string(b)
	for _, binding := range []string{
		"  north_grpc_server:\n    type: grpc\n    kind: server\n", "  west_grpc_client:\n    type: grpc\n    kind: client\n",
		"      acks: leader_only\n    routes:\n      - exit: west_grpc_client",
	} {
		if strings.Count(text, binding) != 1 {
			w.t.Fatalf("the seed has %d times %q", strings.Count(text, binding), binding)
		}
		options := binding + "    options:\n      max-message: 20MiB\n"
		if strings.Contains(binding, "acks") {
			options = strings.Replace(binding, "acks: leader_only\n", "acks: leader_only\n      table:\n        max-result: 20MiB\n", 1)
		}
		text = strings.Replace(text, binding, options, 1)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// limit sets the max.message.bytes of topics.
func (w *world) limit(bytes int, topics ...string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	value := fmt.Sprint(bytes)
	done, err := kadm.NewClient(w.client()).AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "max.message.bytes", Value: &value}}, topics...)
	for _, d := range done {
		if err == nil {
			err = d.Err
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

var anySize = []grpc.CallOption{grpc.MaxCallRecvMsgSize(64 * mebi), grpc.MaxCallSendMsgSize(64 * mebi)}

// unary calls with a message of any size.
func (c caller) unary(key, message string) reply {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	in, out := []byte(message), []byte(nil)
	err := c.conn.Invoke(metadata.AppendToOutgoingContext(ctx, "idempotency-key", key), "/"+echo+"/UnaryEcho", &in, &out, anySize...)
	return reply{string(out), err}
}

// bidi sends messages of any size to a bidirectional stream, and answers what comes back.
func (c caller) bidi(key string, messages ...string) (got []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := c.conn.NewStream(metadata.AppendToOutgoingContext(ctx, "idempotency-key", key),
		&grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/"+echo+"/BidirectionalStreamingEcho", anySize...)
	if err != nil {
		return nil, err
	}
	go func() {
		for _, m := range messages {
			b := []byte(m)
			if stream.SendMsg(&b) != nil {
				return // RecvMsg says why
			}
		}
		_ = stream.CloseSend()
	}()
	for {
		var m []byte
		if err := stream.RecvMsg(&m); err == io.EOF {
			return got, nil
		} else if err != nil {
			return got, err
		}
		got = append(got, string(m))
	}
}

// sized is a message of so many bytes, each like no other.
func sized(name string, bytes int) string {
	return (name + strings.Repeat(fmt.Sprintf(" %x", name), bytes/len(name)))[:bytes]
}

// refusal fails the test unless a call was refused as too large with a status that says all of this.
func refusal(t *testing.T, what string, err error, says ...string) {
	t.Helper()
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("%s: %v, want RESOURCE_EXHAUSTED", what, err)
	}
	for _, text := range says {
		if !strings.Contains(status.Convert(err).Message(), text) {
			t.Errorf("%s: %v does not say %q", what, err, text)
		}
	}
}

// Messages are as large as their topics take, also when these change while the program runs; a larger one is refused with
// what has to be changed.
func TestMessagesAsLargeAsTheirTopicsTake(t *testing.T) {
	w := newWorld(t)
	w.allowLarge()
	w.createTopics(2)
	run := w.run()
	run.awaitText("table.max-result (20971520) is more than topic " + group + "-table has room for")
	c := dial(t, plainAddress)

	refusal(t, "request above its topic", c.unary("a", sized("a", 2*mebi)).err, "topic "+requestTopic+" takes (1048527): raise its max.message.bytes to")
	_, err := c.bidi("b", "small", sized("b", 2*mebi))
	refusal(t, "request message above its topic", err, "topic "+requestTopic+" takes (1048527)")
	if r := c.unary("small", "hello"); r.err != nil || r.message != "hello" {
		t.Errorf("a small call: %q, %v", r.message, r.err)
	}

	w.limit(20*mebi, requestTopic)
	eventually(t, "requests of 2 MiB pass", func() bool {
		err := c.unary("a", sized("a", 2*mebi)).err
		return err != nil && !strings.Contains(err.Error(), "topic "+requestTopic)
	})
	refusal(t, "result above the table", c.unary("a", sized("a", 2*mebi)).err, "topic "+group+"-table", "raise its max.message.bytes")
	w.limit(20*mebi, group+"-table", group+"-loop", group+"-dead-letters")
	kept := ""
	eventually(t, "results of 2 MiB are kept", func() bool {
		kept = "c" + strconv.Itoa(w.echo.count("call c"))
		err := c.unary(kept, sized("c", 2*mebi)).err
		return err != nil && strings.Contains(err.Error(), "topic "+replyTopic)
	})
	refusal(t, "reply above its topic", c.unary(kept, sized("c", 2*mebi)).err, "topic "+replyTopic+" takes (1048527): raise its max.message.bytes")
	_, err = c.bidi("d", "small", sized("d", 2*mebi))
	refusal(t, "reply message above its topic", err, "topic "+replyTopic+" takes (1048527): raise its max.message.bytes")

	w.limit(20*mebi, replyTopic)
	eventually(t, "replies of 2 MiB pass", func() bool {
		r := c.unary(kept, sized("c", 2*mebi))
		return r.err == nil && r.message == sized("c", 2*mebi)
	})

	for _, bytes := range []int{3 * mebi, 16 * mebi} {
		key := fmt.Sprintf("unary-%d", bytes)
		for _, try := range []string{"first", "stored"} {
			if r := c.unary(key, sized(key, bytes)); r.err != nil || r.message != sized(key, bytes) {
				t.Errorf("%s, %s: %d bytes, %v", key, try, len(r.message), r.err)
			}
		}
		key = fmt.Sprintf("bidi-%d", bytes)
		messages := []string{sized("1", bytes), "small", sized("2", bytes), sized("3", bytes)}
		got, err := c.bidi(key, messages...)
		if err != nil || len(got) != len(messages) {
			t.Errorf("%s: %d messages, %v", key, len(got), err)
			continue
		}
		for i := range got {
			if got[i] != messages[i] {
				t.Errorf("%s: message %d has %d bytes, want %d", key, i, len(got[i]), len(messages[i]))
			}
		}
	}
	refusal(t, "request above max-message", c.unary("f", sized("f", 21*mebi)).err, "larger than max (22020096 vs. 20971520)")

	// What is stored is there again after a crash, from the changelog.
	run.kill()
	w.state = t.TempDir()
	run = w.run()
	calls := w.echo.count("call unary-")
	key := fmt.Sprintf("unary-%d", 16*mebi)
	if r := c.unary(key, sized(key, 16*mebi)); r.err != nil || r.message != sized(key, 16*mebi) {
		t.Errorf("after a crash: %d bytes, %v", len(r.message), r.err)
	}

	// A table that is lowered again stops nobody: what it holds is answered.
	w.limit(mebi, group+"-table")
	eventually(t, "results of 2 MiB are not kept any more", func() bool {
		key := "g" + strconv.Itoa(w.echo.count("call g"))
		err := c.unary(key, sized(key, 2*mebi)).err
		return status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "topic "+group+"-table")
	})
	if r := c.unary(key, sized(key, 16*mebi)); r.err != nil || r.message != sized(key, 16*mebi) {
		t.Errorf("after the table was lowered: %d bytes, %v", len(r.message), r.err)
	}
	if r := c.unary("still", "hello"); r.err != nil || r.message != "hello" {
		t.Errorf("a small call: %q, %v", r.message, r.err)
	}
	if n := w.echo.count("call unary-"); n != calls {
		t.Errorf("%d calls were executed, want the %d of before", n, calls)
	}
	run.signal(syscall.SIGTERM)
	if code := run.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// Memory does not grow with the number of calls: while Kafka takes nothing, what has no room stays with its callers.
func TestMemoryOfManyLargeCallsInAnOutage(t *testing.T) {
	const calls, most = 160, 1200 // MiB; 2.5 GiB of messages
	w := newWorld(t, "-quiet")
	w.allowLarge()
	w.create(4, map[string]*string{"max.message.bytes": new("20971520")}, requestTopic, replyTopic)
	command := w.command("run", "-c", filepath.Join(w.dir, "zilla.yaml"), "--listen", "127.0.0.1", "--state-dir", w.state)
	command.Env = append(command.Env, "GOMEMLIMIT=512MiB")
	run := start(t, command)
	run.await("ready ")
	c := dial(t, plainAddress)
	message := sized("m", 16*mebi)
	if r := c.unary("before", message); r.err != nil || r.message != message {
		t.Fatalf("before the outage: %d bytes, %v", len(r.message), r.err)
	}
	w.kafka.Kill()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	var calling sync.WaitGroup
	for range calls {
		calling.Go(func() {
			in, out := []byte(message), []byte(nil)
			err := c.conn.Invoke(ctx, "/"+echo+"/UnaryEcho", &in, &out, anySize...)
			if code := status.Code(err); code != codes.DeadlineExceeded && code != codes.Unavailable {
				t.Errorf("%v, want that it is not answered", err)
			}
		})
	}
	calling.Wait()
	peak := peakMemory(t, run)
	t.Logf("%d calls of 16 MiB took at most %d MiB of memory", calls, peak)
	if peak > most {
		t.Errorf("%d MiB of memory, want at most %d", peak, most)
	}
	w.kafka.Restart()
	eventually(t, "a call after the outage", func() bool {
		r := c.unary("after", message)
		return r.err == nil && r.message == message
	})
}

// peakMemory is the most that a process had resident, in MiB.
func peakMemory(t *testing.T, p *process) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var kib int
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}
