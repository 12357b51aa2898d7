package e2e

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"kafkagrpc/e2e/realkafka"
	"kafkagrpc/wire"
)

const (
	fanoutTopic  = "messages"
	fanoutMethod = "example.FanoutService/FanoutServerStream"
)

// newFanout is a real Kafka with the topic of the fan-out example.
func newFanout(t testing.TB, partitions int32, configs map[string]*string) *world {
	t.Helper()
	realkafka.Need(t)
	w := &world{t: t, kafka: realkafka.Start(t, realkafka.Options{})}
	w.create(partitions, configs, fanoutTopic)
	return w
}

// fanout starts the example.
func (w *world) fanout() *process {
	w.t.Helper()
	c := exec.Command(binary(w.t, "kafka-grpc"), "run", "-c", filepath.Join("..", "deploy", "examples", "fanout.yaml"), "--listen", "127.0.0.1")
	c.Env = append(os.Environ(), "KAFKA_GRPC_BROKERS="+strings.Join(w.kafka.Brokers(), ","), "KAFKA_GRPC_ADMIN_ADDR=127.0.0.1:0")
	p := start(w.t, c)
	p.await("ready ")
	return p
}

// message is a FanoutMessage.
func message(text string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), text)
}

// publisher writes messages; each has its number as its text, and as its key.
type publisher struct {
	*world
	client *kgo.Client
}

func (w *world) publisher() *publisher {
	w.t.Helper()
	return &publisher{w, w.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))}
}

// publish writes the messages from one number to below another, to the partitions in turn.
func (p *publisher) publish(from, to, partitions int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	defer cancel()
	var failed error
	for i := from; i < to; i++ {
		text := strconv.Itoa(i)
		p.client.Produce(ctx, &kgo.Record{Topic: fanoutTopic, Partition: int32(i % partitions), Key: []byte(text), Value: message(text)}, func(_ *kgo.Record, err error) {
			failed = cmp.Or(failed, err) // one after the other
		})
	}
	if err := cmp.Or(p.client.Flush(ctx), failed); err != nil {
		p.t.Fatal(err)
	}
}

// fanoutReader is one that reads all messages, and goes on where it was.
type fanoutReader struct {
	t      testing.TB
	conn   grpc.ClientConnInterface
	md     []string
	stream grpc.ClientStream
	cancel context.CancelFunc
	last   string // id of the last message; "": none
}

func (c caller) reader(md ...string) *fanoutReader {
	return &fanoutReader{t: c.t, conn: c.conn, md: md}
}

func (r *fanoutReader) open() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*patience)
	r.t.Cleanup(cancel)
	r.cancel = cancel
	md := r.md
	if r.last != "" {
		md = append(slices.Clone(md), "last-message-id", r.last)
	}
	var err error
	if r.stream, err = r.conn.NewStream(metadata.AppendToOutgoingContext(ctx, md...), &grpc.StreamDesc{ServerStreams: true}, "/"+fanoutMethod); err == nil {
		err = r.stream.SendMsg(&[]byte{})
	}
	if err == nil {
		err = r.stream.CloseSend()
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// next is the text of the next message.
func (r *fanoutReader) next() (string, error) {
	var m []byte
	if err := r.stream.RecvMsg(&m); err != nil {
		return "", err
	}
	text, id := "", []byte(nil)
	for len(m) > 0 {
		number, kind, n := protowire.ConsumeTag(m)
		value, k := protowire.ConsumeBytes(m[max(n, 0):])
		if n < 0 || k < 0 || kind != protowire.BytesType {
			r.t.Fatalf("%x is no message", m)
		}
		m = m[n+k:]
		switch number {
		case 1:
			text = string(value)
		case 32767:
			id = value
		}
	}
	if len(id) == 0 {
		r.t.Fatalf("message %q has no position", text)
	}
	r.last = base64.StdEncoding.EncodeToString(id)
	return text, nil
}

// skim takes so many messages, and opens the call again where it ends as the server stops.
func (r *fanoutReader) skim(n int, each func(text string)) {
	r.t.Helper()
	if r.stream == nil {
		r.open()
	}
	for i := 0; i < n; {
		text, err := r.next()
		switch {
		case status.Code(err) == codes.Unavailable:
			r.open()
		case err != nil:
			r.t.Fatalf("after %d messages: %v", i, err)
		default:
			each(text)
			i++
		}
	}
}

func (r *fanoutReader) read(n int) (texts []string) {
	r.t.Helper()
	r.skim(n, func(text string) { texts = append(texts, text) })
	return texts
}

// wantAll fails unless the texts are the numbers below n, each once, and in order in each partition.
func wantAll(t testing.TB, who string, texts []string, n int, partition func(i int) int) {
	t.Helper()
	seen, last := map[int]int{}, map[int]int{}
	for _, text := range texts {
		i, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		seen[i]++
		if p := partition(i); last[p] > i {
			t.Errorf("%s: %d came after %d", who, i, last[p])
		} else {
			last[p] = i
		}
	}
	for i := range n {
		if seen[i] != 1 {
			t.Errorf("%s: message %d came %d times", who, i, seen[i])
		}
	}
	if len(texts) != n {
		t.Errorf("%s: %d messages, not %d", who, len(texts), n)
	}
}

// Everybody reads everything once, also who breaks off, while the server is started anew and the topic gets more partitions.
func TestFanout(t *testing.T) {
	w := newFanout(t, 3, nil)
	p := w.publisher()
	p.publish(0, 300, 3)
	proxy := w.fanout()
	client := dial(t, plainAddress)
	steady, broken := client.reader(), client.reader()
	got := map[string][]string{"steady": steady.read(300), "broken off": broken.read(100)}
	broken.cancel()
	p.publish(300, 600, 3)
	broken.open()
	got["broken off"] = append(got["broken off"], broken.read(350)...)
	got["steady"] = append(got["steady"], steady.read(200)...)

	// A position of the time before partitions were added.
	added, err := kadm.NewClient(p.client).CreatePartitions(t.Context(), 2, fanoutTopic)
	if err != nil || added.Error() != nil {
		t.Fatal(err, added.Error())
	}
	p = w.publisher()
	p.publish(600, 1000, 5)
	got["steady"] = append(got["steady"], steady.read(500)...)
	broken.cancel()
	broken.open()
	got["broken off"] = append(got["broken off"], broken.read(250)...)

	// The server stops, and tells its callers at once.
	begun := time.Now()
	proxy.signal(syscall.SIGTERM)
	if code := proxy.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	t.Log("the stop took", time.Since(begun))
	w.fanout()
	p.publish(1000, 1200, 5)
	got["steady"] = append(got["steady"], steady.read(200)...)
	got["broken off"] = append(got["broken off"], broken.read(500)...)
	for who, texts := range got {
		wantAll(t, who, texts, 1200, func(i int) int {
			if i < 600 {
				return i % 3
			}
			return i % 5
		})
	}

	// Nothing is left of calls that have ended, and what is not right is said.
	for md, want := range map[string]codes.Code{"last-message-id:nonsense": codes.InvalidArgument, "last-message-id:AQISFA": codes.InvalidArgument /* partition 9 */, "fetch-group:a b": codes.InvalidArgument} {
		name, value, _ := strings.Cut(md, ":")
		r := client.reader(name, value)
		r.open()
		if _, err := r.next(); status.Code(err) != want {
			t.Errorf("%s: %v", md, err)
		}
	}

	// grpcurl shows the positions as base64, which it may give back.
	grpcurl := func(args ...string) *process {
		all := append([]string{"-plaintext", "-format", "json"}, args...)
		return start(t, exec.Command(binary(t, "grpcurl"), append(all, plainAddress, fanoutMethod)...))
	}
	shown := func(g *process, n int) (last struct{ Message, LastMessageID string }) {
		t.Helper()
		g.until(fmt.Sprint(n, " messages"), func(lines []string, _ bool) bool { return countLines(lines, "}") >= n })
		g.mu.Lock()
		text := strings.Join(g.lines, "\n")
		g.mu.Unlock()
		decoder := json.NewDecoder(strings.NewReader(text))
		for range n {
			if err := decoder.Decode(&last); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
		}
		return last
	}
	first := grpcurl()
	middle := shown(first, 1200-10)
	first.kill()
	rest := grpcurl("-H", "last-message-id: "+middle.LastMessageID)
	shown(rest, 10)
	if n := rest.count("}"); n != 10 {
		t.Errorf("grpcurl was given %d messages more, not 10", n)
	}
}

// What a compacted topic has left is read, and what retention has left.
func TestFanoutOfACompactedTopic(t *testing.T) {
	setting := func(s string) *string { return &s }
	w := newFanout(t, 1, map[string]*string{
		"cleanup.policy": setting("compact"), "segment.ms": setting("100"), "min.cleanable.dirty.ratio": setting("0.01"), "delete.retention.ms": setting("100"),
	})
	w.fanout()
	p := w.client()
	put := func(key string, value []byte) {
		t.Helper()
		if err := p.ProduceSync(t.Context(), &kgo.Record{Topic: fanoutTopic, Key: []byte(key), Value: value}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50 {
		put("a", message(fmt.Sprint("a", i)))
		put("b", message(fmt.Sprint("b", i)))
	}
	put("b", nil)
	reader := dial(t, plainAddress).reader()
	reader.read(100)
	// Until the cleaner has been there. A segment is closed when the next one begins.
	admin := kadm.NewClient(p)
	eventually(t, "it is compacted", func() bool {
		put("c", message("c"))
		return !slices.ContainsFunc(w.recordsNow(fanoutTopic, admin), func(r *kgo.Record) bool { return string(r.Value) == string(message("a0")) })
	})
	put("d", message("end"))
	fresh := dial(t, plainAddress).reader()
	var texts []string
	for len(texts) == 0 || texts[len(texts)-1] != "end" {
		texts = append(texts, fresh.read(1)...)
	}
	if !slices.Contains(texts, "a49") || slices.Contains(texts, "b0") || slices.Contains(texts, "a0") {
		t.Errorf("it reads %q", texts)
	}
	for texts = nil; len(texts) == 0 || texts[len(texts)-1] != "end"; {
		texts = append(texts, reader.read(1)...)
	}
	if slices.Contains(texts, "a1") {
		t.Errorf("it goes on with %q", texts)
	}
	// Records are deleted behind the position of one that is away.
	away := fresh.last
	put("e", message("deleted"))
	put("f", message("kept"))
	ends, err := admin.ListEndOffsets(t.Context(), fanoutTopic)
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup(fanoutTopic, 0)
	policy := "compact,delete"
	if altered, err := admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "cleanup.policy", Value: &policy}}, fanoutTopic); err != nil || altered[0].Err != nil {
		t.Fatal(err, altered)
	}
	eventually(t, "records are deleted", func() bool { // the policy is taken up in a moment
		deleted, err := admin.DeleteRecords(t.Context(), kadm.Offsets{fanoutTopic: {0: {Topic: fanoutTopic, At: end.Offset - 1}}})
		return err == nil && deleted.Error() == nil
	})
	late := dial(t, plainAddress).reader()
	late.last = away
	if got := late.read(1); got[0] != "kept" {
		t.Errorf("it goes on with %q", got)
	}
}

// recordsNow are the records that a topic holds.
func (w *world) recordsNow(topic string, admin *kadm.Client) (all []*kgo.Record) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err != nil {
		w.t.Fatal(err)
	}
	end, _ := ends.Lookup(topic, 0)
	client := w.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	defer client.Close()
	for {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			w.t.Fatal(ctx.Err())
		}
		all = append(all, fetches.Records()...)
		if len(all) > 0 && all[len(all)-1].Offset >= end.Offset-1 {
			return all
		}
	}
}

// fanoutRecords is how many records the slow reader is given; KAFKA_GRPC_FANOUT says more.
func fanoutRecords(t testing.TB) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv("KAFKA_GRPC_FANOUT"), "1000000"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A reader that rests costs memory for what is read ahead, and not for the topic, and holds up nobody else.
func TestFanoutSlowReader(t *testing.T) {
	w := newFanout(t, 4, nil)
	n := fanoutRecords(t)
	w.publisher().publish(0, n, 4)
	proxy := w.fanout()
	before := proxy.memory("VmRSS:")
	var slow []*fanoutReader
	var begun [][]string
	for range 5 {
		r := dial(t, plainAddress).reader()
		begun = append(begun, r.read(1000))
		slow = append(slow, r)
	}
	at := time.Now()
	dial(t, plainAddress).reader().skim(n, func(string) {})
	t.Logf("%d messages in %v", n, time.Since(at))
	peak := proxy.memory("VmHWM:")
	t.Logf("resident: %.0f MiB before, %.0f MiB at most", before, peak)
	if peak > before+100 {
		t.Errorf("the memory grew from %.0f MiB to %.0f MiB", before, peak)
	}
	seen := make([]bool, n)
	check := func(text string) {
		i, err := strconv.Atoi(text)
		if err != nil || seen[i] {
			t.Fatalf("message %s comes twice, or is none", text)
		}
		seen[i] = true
	}
	for _, text := range begun[0] {
		check(text)
	}
	slow[0].skim(n-1000, check)
}

// Callers that share a topic are given all of it, each message at least once, whoever comes and goes.
func TestFanoutGroup(t *testing.T) {
	const partitions = 6
	w := newFanout(t, partitions, nil)
	p := w.publisher()
	admin := kadm.NewClient(p.client)
	proxy := w.fanout()
	const group = "example-north_grpc_kafka_mapping:messages:workers"
	var mu sync.Mutex
	seen := map[string]int{}
	changed := make(chan struct{}, 1) // of seen
	type member struct {
		*fanoutReader
		got  int
		done chan struct{}
	}
	join := func() *member {
		m := &member{fanoutReader: dial(t, plainAddress).reader("fetch-group", "workers"), done: make(chan struct{})}
		m.open()
		go func() {
			defer close(m.done)
			for {
				text, err := m.next()
				if err != nil {
					return
				}
				mu.Lock()
				seen[text]++
				m.got++
				mu.Unlock()
				select {
				case changed <- struct{}{}:
				default:
				}
			}
		}()
		return m
	}
	got := func(m *member) int { mu.Lock(); defer mu.Unlock(); return m.got }
	members := func() int {
		described, err := admin.DescribeGroups(t.Context(), group)
		if err != nil {
			t.Fatal(err)
		}
		return len(described[group].Members)
	}
	n := 0
	until := func(what string, holds func() bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); !holds(); {
			if time.Now().After(deadline) {
				t.Fatalf("not within %v: %s", patience, what)
			}
			p.publish(n, n+60, partitions)
			n += 60
		}
	}
	first := join()
	until("the first is given messages", func() bool { return got(first) > 100 })
	second, third := join(), join()
	until("three share them", func() bool { return got(second) > 100 && got(third) > 100 })
	if m := members(); m != 3 {
		t.Errorf("%d members", m)
	}
	// One goes away, with what it has not read.
	begun := time.Now()
	second.cancel()
	<-second.done
	until("it is no member any more", func() bool { return members() == 2 })
	t.Log("it was taken out after", time.Since(begun))
	// Another one comes, on another instance's behalf as it were; then the instance is killed, which can commit nothing.
	fourth := join()
	until("the fourth is given messages", func() bool { return got(fourth) > 100 })
	committed := func() {
		t.Helper()
		eventually(t, "all is committed", func() bool {
			lag, err := admin.Lag(t.Context(), group)
			if err != nil {
				t.Fatal(err)
			}
			return lag[group].Lag.Total() == 0
		})
	}
	committed()
	sure := n
	p.publish(n, n+300, partitions)
	n += 300
	proxy.kill()
	for _, m := range []*member{first, third, fourth} {
		m.cancel()
		<-m.done
	}
	before := maps.Clone(seen) // nobody is there
	p.publish(n, n+600, partitions)
	n += 600
	w.fanout()
	last := join()
	defer func() { last.cancel(); <-last.done }()
	given := func() int { mu.Lock(); defer mu.Unlock(); return len(seen) }
	for deadline := time.After(patience); given() < n; {
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%d of %d messages were given", given(), n)
		}
	}
	committed()
	mu.Lock()
	defer mu.Unlock()
	twice := 0
	for text, times := range seen {
		twice += times - 1
		if i, _ := strconv.Atoi(text); i < sure && times != before[text] {
			t.Errorf("message %d was committed, and came again", i)
		}
	}
	t.Logf("%d messages, %d of them again", n, twice)
}

// Calls that are open outlast an outage of Kafka, and what shares a topic, too.
func TestFanoutOverAnOutage(t *testing.T) {
	w := newFanout(t, 3, nil)
	p := w.publisher()
	p.publish(0, 300, 3)
	proxy := w.fanout()
	client := dial(t, plainAddress)
	all, shared := client.reader(), client.reader("fetch-group", "workers")
	got := all.read(300)
	seen := map[string]bool{}
	shared.skim(300, func(text string) { seen[text] = true })
	w.kafka.Kill()
	late := client.reader()
	late.open()
	if _, err := late.next(); status.Code(err) != codes.Unavailable {
		t.Errorf("a call that begins in the outage ends with %v", err)
	}
	proxy.awaitText("reading fails, trying again")
	w.kafka.Restart()
	w.publisher().publish(300, 600, 3)
	wantAll(t, "one who was there before", append(got, all.read(300)...), 600, func(i int) int { return i % 3 })
	for len(seen) < 600 { // some may come again
		shared.skim(1, func(text string) { seen[text] = true })
	}
	if n := proxy.count("panic"); n > 0 {
		t.Error(proxy.output())
	}
}

// An empty topic, messages that a caller does not take, a topic that is deleted, and one that is made anew.
func TestFanoutOfOddTopics(t *testing.T) {
	large := fmt.Sprint(10 * mebi)
	configs := map[string]*string{"max.message.bytes": &large}
	w := newFanout(t, 1, configs)
	proxy := w.fanout()
	client := dial(t, plainAddress)
	r := client.reader()
	r.open()
	if _, err := r.stream.Header(); err != nil { // which comes, though there is no message
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	late, err := client.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/"+fanoutMethod)
	if err == nil {
		err = late.RecvMsg(&[]byte{})
	}
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("at its deadline, a call on an empty topic ends with %v", err)
	}
	writer := func() *kgo.Client {
		return w.client(kgo.ProducerBatchMaxBytes(10*mebi), kgo.ProducerBatchCompression(kgo.NoCompression()))
	}
	p := writer()
	put := func(text string) {
		t.Helper()
		if err := p.ProduceSync(t.Context(), &kgo.Record{Topic: fanoutTopic, Value: message(text)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	put("small")
	if got := r.read(1); got[0] != "small" {
		t.Errorf("%q", got)
	}
	put(strings.Repeat("x", 5*mebi))
	if _, err := r.next(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a message that is too large for the caller: %v", err)
	}
	put("behind it")
	ctx, cancel = context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "last-message-id", r.last), patience)
	defer cancel()
	able, err := client.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/"+fanoutMethod, grpc.MaxCallRecvMsgSize(10*mebi))
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{5 * mebi, 9} {
		var m []byte
		if err := able.RecvMsg(&m); err != nil || len(m) < size || len(m) > size+20 {
			t.Errorf("%d bytes, not %d: %v", len(m), size, err)
		}
	}
	admin := kadm.NewClient(p)
	deleted, err := admin.DeleteTopics(t.Context(), fanoutTopic)
	if err != nil || deleted.Error() != nil {
		t.Fatal(err, deleted.Error())
	}
	if err := able.RecvMsg(&[]byte{}); status.Code(err) != codes.NotFound {
		t.Errorf("its topic was deleted: %v", err)
	}
	none := client.reader()
	none.open()
	if _, err := none.next(); status.Code(err) != codes.NotFound {
		t.Errorf("there is no topic: %v", err)
	}
	w.create(1, configs, fanoutTopic)
	p = writer()
	put("anew")
	r.last = wire.EncodeProgressText(map[int32]int64{0: 3}) // of the topic before
	r.open()
	if got, err := r.next(); got != "anew" {
		t.Errorf("%q, %v", got, err)
	}
	proxy.awaitText("the offset to read next is gone")
}

// echoMessagesFile writes calls to a topic that is its own reply topic.
const echoMessagesFile = `name: example
catalogs:
  host_filesystem:
    type: filesystem
    options:
      subjects:
        echo: {path: proto/echo.proto}
bindings:
  north_tcp_server: {type: tcp, kind: server, options: {host: 0.0.0.0, port: 7151}, exit: north_http_server}
  north_http_server: {type: http, kind: server, options: {versions: [h2]}, exit: north_grpc_server}
  north_grpc_server:
    type: grpc
    kind: server
    catalog:
      host_filesystem: [{subject: echo}]
    routes:
      - when: [{method: grpc.examples.echo.Echo/*}]
        exit: north_grpc_kafka_mapping
  north_grpc_kafka_mapping:
    type: grpc-kafka
    kind: proxy
    routes:
      - when: [{method: grpc.examples.echo.Echo/*}]
        exit: north_kafka_cache_client
        with: {capability: produce, topic: echo-messages, acks: leader_only, reply-to: echo-messages}
  north_kafka_cache_client: {type: kafka, kind: cache_client, exit: south_kafka_cache_server}
  south_kafka_cache_server: {type: kafka, kind: cache_server, exit: south_kafka_client}
  south_kafka_client: {type: kafka, kind: client, options: {servers: ["kafka:9092"]}, exit: south_tcp_client}
  south_tcp_client: {type: tcp, kind: client}
`

// What callers write to a topic that is its own reply topic comes back, to each of them its own.
func TestTopicThatIsItsOwnReplyTopic(t *testing.T) {
	realkafka.Need(t)
	w := &world{t: t, kafka: realkafka.Start(t, realkafka.Options{})}
	w.create(2, nil, "echo-messages")
	dir := t.TempDir()
	writeSeed(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "zilla.yaml"), []byte(echoMessagesFile), 0o600); err != nil {
		t.Fatal(err)
	}
	w.dir, w.addr, w.state = dir, "127.0.0.1:1", filepath.Join(dir, "state")
	out, errs, code := output(t, w.command("check", "--connect", "-c", filepath.Join(dir, "zilla.yaml")))
	if code != 0 || strings.Count(out, "echo-messages") != 1 {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	w.run()
	for _, call := range []struct{ method, data, want string }{
		{"UnaryEcho", `{"message":"hi"}`, `{ "message": "hi" }`},
		{"ServerStreamingEcho", `{"message":"hi"}`, `{ "message": "hi" }`},
		{"ClientStreamingEcho", `{"message":"one"} {"message":"two"}`, `{ "message": "two" }`},
		{"BidirectionalStreamingEcho", `{"message":"one"} {"message":"two"}`, `{ "message": "one" } { "message": "two" }`},
	} {
		stdout, stderr, code := output(t, exec.Command(binary(t, "grpcurl"), "-max-time", "30", "-plaintext", "-d", call.data, plainAddress, echo+"/"+call.method))
		if got := strings.Join(strings.Fields(stdout), " "); code != 0 || got != call.want {
			t.Errorf("%s: exit code %d, %s%s", call.method, code, got, stderr)
		}
	}
	client := dial(t, plainAddress)
	results := map[string]func() reply{}
	for i := range 200 {
		results[fmt.Sprint(i)] = client.begin("the same key", string(message(fmt.Sprint(i))))
	}
	for text, result := range results {
		if r := result(); r.err != nil || r.message != string(message(text)) {
			t.Errorf("%s: %q, %v", text, r.message, r.err)
		}
	}
}
