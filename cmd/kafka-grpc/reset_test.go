package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/wire"
)

const resetGroup = "example-west_kafka_grpc_remote_server"

// reset runs the command, and answers its exit code and all that it printed.
func (b *lettersBench) reset(args ...string) (code int, out string) {
	b.t.Helper()
	var stdout, stderr bytes.Buffer
	args = append([]string{"reset", "-c", b.file, "--brokers", b.brokers, "--state-dir", b.state}, args...)
	code = execute(b.t.Context(), args, &stdout, &stderr, b.env)
	return code, stdout.String() + stderr.String()
}

// left waits until the members of the group have timed out.
func (b *lettersBench) left() {
	b.t.Helper()
	eventually(b.t, func() (string, bool) {
		groups, err := kadm.NewClient(b.client).DescribeGroups(b.t.Context(), resetGroup)
		if err != nil {
			b.t.Fatal(err)
		}
		members := groups[resetGroup].Members
		return fmt.Sprintf("members %+v", members), len(members) == 0
	})
}

func (b *lettersBench) committedOffsets() int {
	b.t.Helper()
	offsets, err := kadm.NewClient(b.client).FetchOffsets(b.t.Context(), resetGroup)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		b.t.Fatal(err)
	}
	return len(offsets.Offsets()["echo-requests"])
}

func (b *lettersBench) topics() []string {
	b.t.Helper()
	found, err := kadm.NewClient(b.client).ListTopics(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return found.Names()
}

// A group that is reset reads its topics again, but executes again only what its table was made to forget.
func TestResetForgetsOffsetsAndStateOfAStoppedGroup(t *testing.T) {
	t.Parallel()
	b := newLettersBench(t)
	stores := filepath.Join(b.state, resetGroup)
	table, loop := resetGroup+"-table", resetGroup+"-loop"

	stop := b.run(b.file)
	request := requestRecord("once", "echo-responses")
	request.Headers = slices.DeleteFunc(request.Headers, func(h kgo.RecordHeader) bool { return h.Key == "grpc:deadline" })
	b.produce(request)
	b.answered("echo-responses", "once", 2)
	if code, out := b.reset(); code != 1 || !strings.Contains(out, "group "+resetGroup+" has members: ") {
		t.Errorf("reset of a running group: exit code %d, %s", code, out)
	}
	stop()
	b.left()

	code, out := b.reset("--dry-run", "--table")
	for _, want := range []string{
		"would do: group " + resetGroup, "would do: topic " + table + ": deleted", "would do: topic " + loop, "would do: folder " + stores,
	} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit code %d, no %q in:\n%s", code, want, out)
		}
	}
	if _, err := os.Stat(stores); err != nil || b.committedOffsets() == 0 || !slices.Contains(b.topics(), table) {
		t.Fatalf("a dry run has changed something: %v, %d offsets, topics %v", err, b.committedOffsets(), b.topics())
	}

	if code, out := b.reset(); code != 0 || strings.Contains(out, table) || !strings.Contains(out, "folder "+stores+": removed") {
		t.Fatalf("exit code %d: %s", code, out)
	}
	if _, err := os.Stat(stores); !os.IsNotExist(err) || b.committedOffsets() != 0 {
		t.Fatalf("after the reset: %v, %d offsets", err, b.committedOffsets())
	}
	stop = b.run(b.file)
	b.answered("echo-responses", "once", 4)
	stop()
	if calls := b.echo.Calls(); calls != 1 {
		t.Errorf("%d calls: a result in the table was executed again", calls)
	}
	b.left()

	if code, out := b.reset("--table"); code != 0 || !strings.Contains(out, "topic "+table+": deleted") {
		t.Fatalf("exit code %d: %s", code, out)
	}
	if topics := b.topics(); slices.Contains(topics, table) || slices.Contains(topics, loop) {
		t.Errorf("topics %v", topics)
	}
	defer b.run(b.file)()
	b.answered("echo-responses", "once", 6)
	if calls := b.echo.Calls(); calls != 2 {
		t.Errorf("%d calls, want one more", calls)
	}
}

// What the table answers no more is executed again after a reset, which says how many those are; with processing.max-age they
// become dead letters instead.
func TestResetTellsWhatIsExecutedAgain(t *testing.T) {
	t.Parallel()
	b := newLettersBench(t)
	text, err := os.ReadFile(b.file)
	if err != nil {
		t.Fatal(err)
	}
	const options = "    entry: north_kafka_cache_client\n    options:\n"
	for name, more := range map[string]string{
		"expiring": "      table: {expiry: 1s}\n",
		"aging":    "      table: {expiry: 1s}\n      processing: {max-age: 1s}\n",
	} {
		changed := bytes.Replace(text, []byte(options), []byte(options+more), 1)
		if err := os.WriteFile(filepath.Join(filepath.Dir(b.file), name+".yaml"), changed, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	use := func(name string) string {
		b.file = filepath.Join(filepath.Dir(b.file), name+".yaml")
		return b.file
	}
	calls := func(n int) {
		t.Helper()
		eventually(t, func() (string, bool) { return fmt.Sprintf("%d of %d calls", b.echo.Calls(), n), b.echo.Calls() >= n })
	}
	tells := func(want string, args ...string) {
		t.Helper()
		if code, out := b.reset(args...); code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit code %d, no %q in:\n%s", code, want, out)
		}
	}

	stop := b.run(use("expiring"))
	for _, id := range []string{"a", "b", "c", "d", "d"} {
		r := requestRecord(id, "echo-responses")
		r.Headers = slices.DeleteFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == "grpc:deadline" })
		r.Timestamp = time.Now().Add(-48 * time.Hour)
		end := *r
		end.Value = nil
		b.produce(r)
		b.produce(&end)
	}
	late := requestRecord("late", "echo-responses") // and never executed
	late.Timestamp = time.Now().Add(-48 * time.Hour)
	b.produce(late)
	calls(4)
	stop()
	b.left()
	tells("would do: topic echo-requests: up to 4 requests are executed again at the next start: they are older than table.expiry (1s)", "--dry-run")
	tells("would do: topic echo-requests: up to 4 requests are executed again at the next start\n", "--dry-run", "--table")
	tells("topic echo-requests: up to 4 requests are executed again at the next start: ")
	stop = b.run(use("expiring"))
	calls(8)
	stop()
	b.left()
	use("aging")
	tells("topic echo-requests: no request is executed again at the next start\n")
	defer b.run(b.file)()
	eventually(t, func() (string, bool) {
		letters := b.list()
		return fmt.Sprintf("dead letters: %v", letters), len(letters) >= 5
	})
	if n := b.echo.Calls(); n != 8 {
		t.Errorf("%d calls, want none more than 8", n)
	}
}

// With an order of calls each partition has its own result of a key, and what has no place in the order is never executed.
func TestResetCountsWhatIsExecutedAgainInOrder(t *testing.T) {
	t.Parallel()
	b := newLettersBench(t)
	text, err := os.ReadFile(b.file)
	if err != nil {
		t.Fatal(err)
	}
	const options = "    entry: north_kafka_cache_client\n    options:\n"
	changed := bytes.Replace(text, []byte(options), []byte(options+"      processing: {order: key}\n"), 1)
	if err := os.WriteFile(b.file, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	var keys [2]string // of a record in each partition
	for n := 0; keys[0] == "" || keys[1] == ""; n++ {
		key := fmt.Sprint("key ", n)
		keys[wire.Partition([]byte(key), 2)] = key
	}
	stop := b.run(b.file)
	produce := func(key []byte, id string) {
		r := requestRecord(id, "echo-responses")
		r.Key = key
		r.Headers = slices.DeleteFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == "grpc:deadline" })
		b.produce(r)
	}
	produce(nil, "no key")
	produce(nil, "no key either")
	for _, id := range []string{"a", "a", "b"} {
		produce([]byte(keys[0]), id)
	}
	produce([]byte(keys[1]), "a")
	eventually(t, func() (string, bool) { return fmt.Sprintf("%d calls", b.echo.Calls()), b.echo.Calls() == 3 })
	stop()
	b.left()
	const want = "topic echo-requests: up to 3 requests are executed again at the next start\n"
	if code, out := b.reset("--dry-run", "--table"); code != 0 || !strings.Contains(out, want) {
		t.Errorf("exit code %d, no %q in:\n%s", code, want, out)
	}
}

// eventually looks again and again until what it sees is so, or it fails with what there is instead.
func eventually(t *testing.T, see func() (what string, so bool)) {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(patience); ; <-again.C {
		what, so := see()
		if so {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}
