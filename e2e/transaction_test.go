package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/e2e/realkafka"
	"kafkagrpc/wire"
)

const (
	tableTopic      = group + "-table"
	deadLetterTopic = group + "-dead-letters"
)

// onFreePorts moves the listeners of the seed's file to free ports, and answers the address of the one without TLS.
func (w *world) onFreePorts() string {
	w.t.Helper()
	port, err := realkafka.FreePorts()
	if err != nil {
		w.t.Fatal(err)
	}
	w.rewrite(portOf(plainAddress), strconv.Itoa(port), portOf(tlsAddress), strconv.Itoa(port+1))
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// rewrite replaces texts in zilla.yaml, each by the one behind it.
func (w *world) rewrite(oldnew ...string) {
	w.t.Helper()
	file := filepath.Join(w.dir, "zilla.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.NewReplacer(oldnew...).Replace(string(text))), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// transaction begins one that writes records. end ends it.
func (w *world) transaction(records ...*kgo.Record) (end func(kgo.TransactionEndTry)) {
	w.t.Helper()
	transactions++
	client := w.client(kgo.TransactionalID(fmt.Sprint("transaction-", transactions)), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := client.BeginTransaction(); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
	return func(how kgo.TransactionEndTry) {
		w.t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := client.EndTransaction(ctx, how); err != nil {
			w.t.Fatal(err)
		}
	}
}

var transactions int // so far; no two have the same id

// request is the records of a request for a key, as a north server writes them.
func (w *world) request(partitions int32, key, message string) []*kgo.Record {
	w.t.Helper()
	contract := wire.DefaultContract()
	id := contract.ScopeID(key, echo, "UnaryEcho", replyTopic, nil)
	headers := kafkaHeaders(contract.EncodeRequest(wire.Request{
		Service: echo, Method: "UnaryEcho", ReplyTo: replyTopic, CorrelationID: id,
		Metadata: wire.Metadata{{Name: "idempotency-key", Value: key}},
	}, nil))
	partition := wire.Partition([]byte(id), partitions)
	return []*kgo.Record{
		{Topic: requestTopic, Partition: partition, Key: []byte(id), Value: []byte(message), Headers: headers},
		{Topic: requestTopic, Partition: partition, Key: []byte(id), Headers: headers},
	}
}

// lags are what Kafka's own tool says of the lag of the group's partitions of a topic, "-" where nothing is committed.
func (w *world) lags(topic string) map[string]string {
	w.t.Helper()
	tool := w.kafka.Tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand")
	args := append(tool[1:], "--bootstrap-server", strings.Join(w.kafka.Brokers(), ","), "--describe", "--group", group)
	stdout, stderr, code := output(w.t, exec.Command(tool[0], args...))
	if code != 0 {
		w.t.Fatalf("the tool ends with %d: %s%s", code, stdout, stderr)
	}
	lags := map[string]string{}
	for line := range strings.Lines(stdout) {
		if f := strings.Fields(line); len(f) > 5 && f[1] == topic {
			lags[f[2]] = f[5]
		}
	}
	return lags
}

// metrics are the values of a metric of a process, by partition.
func (w *world) metric(p *process, name string) map[string]float64 {
	w.t.Helper()
	response, err := http.Get("http://" + p.admin() + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		w.t.Fatal(err)
	}
	values := map[string]float64{}
	for _, m := range regexp.MustCompile(`(?m)^`+name+`\{[^}]*topic="`+requestTopic+`"[^}]*\} (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		partition := regexp.MustCompile(`partition="(\d+)"`).FindStringSubmatch(m[0])
		id := ""
		if partition != nil {
			id = partition[1]
		}
		if values[id], err = strconv.ParseFloat(m[1], 64); err != nil {
			w.t.Fatal(err)
		}
	}
	return values
}

// noLag waits until neither Kafka's tool nor the program knows of a lag in any partition of the request topic.
func (w *world) noLag(p *process, partitions int) {
	w.t.Helper()
	var lags map[string]string
	var own map[string]float64
	eventually(w.t.(*testing.T), "no lag", func() bool {
		lags, own = w.lags(requestTopic), w.metric(p, "kafka_grpc_consumer_lag")
		for partition := range partitions {
			id := strconv.Itoa(partition)
			if lag, ok := own[id]; lags[id] != "0" || !ok || lag != 0 {
				w.t.Logf("lags %v, as the program says %v", lags, own)
				return false
			}
		}
		return true
	})
}

func (w *world) stop(p *process) {
	w.t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 {
		w.t.Errorf("exit code %d", code)
	}
}

// Transactions of other producers on all topics: what is aborted was never there, what is open waits, and what is committed counts. Neither
// leaves the group with a lag, or keeps an instance from its table.
func TestTransactionsOfProducers(t *testing.T) {
	const partitions = 2
	w := newWorld(t)
	address := w.onFreePorts()
	w.createTopics(partitions)
	run := w.run("--views=all")
	c := dial(t, address)

	// Requests, in both partitions.
	for n := range 8 {
		w.transaction(w.request(partitions, fmt.Sprintf("aborted-%d", n), "aborted")...)(kgo.TryAbort)
	}
	if r := c.call("aborted-3", "valid"); r.err != nil || r.message != "valid" {
		t.Errorf("a valid request of an aborted key is answered %q, %v", r.message, r.err)
	}
	w.noLag(run, partitions)
	open := w.transaction(w.request(partitions, "open-1", "open")...)
	aborted := w.transaction(w.request(partitions, "open-2", "aborted")...)
	eventually(t, "the lag that is known", func() bool {
		lag := w.metric(run, "kafka_grpc_consumer_lag")
		return lag["0"]+lag["1"] == 4
	})
	open(kgo.TryCommit)
	aborted(kgo.TryAbort)
	w.echo.await("call open-1 ")
	if r := c.call("open-1", "open"); r.err != nil || r.message != "open" {
		t.Errorf("a request of a committed key is answered %q, %v", r.message, r.err)
	}
	w.noLag(run, partitions)

	// A reply, while the real one is not there yet.
	answer := c.begin("gate-1", "real")
	w.echo.await("call gate-1 ")
	var forged wire.Request
	for _, r := range w.records(requestTopic, 8) {
		request, err := wire.DefaultContract().DecodeRequest(r.Headers, r.Timestamp)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(request.CorrelationID, "gate-1-") {
			forged = request
		}
	}
	if forged.CorrelationID == "" {
		t.Fatal("the request is not on its topic")
	}
	reply := wire.Reply{CorrelationID: forged.CorrelationID, Call: forged.Call}
	message, end := kafkaHeaders(wire.DefaultContract().EncodeReplyMessage(reply)), kafkaHeaders(wire.DefaultContract().EncodeReplyEnd(reply))
	var replies []*kgo.Record
	for partition := range int32(partitions) {
		replies = append(replies,
			&kgo.Record{Topic: replyTopic, Partition: partition, Key: []byte(forged.CorrelationID), Value: []byte("forged"), Headers: message},
			&kgo.Record{Topic: replyTopic, Partition: partition, Key: []byte(forged.CorrelationID), Headers: end})
	}
	w.transaction(replies...)(kgo.TryAbort)
	w.echo.open()
	if r := answer(); r.err != nil || r.message != "real" {
		t.Errorf("the call is answered %q, %v", r.message, r.err)
	}

	// A dead letter, and rows.
	w.transaction(&kgo.Record{Topic: deadLetterTopic, Key: []byte("k"), Value: []byte("v"), Headers: message})(kgo.TryAbort)
	stdout, stderr, code := output(t, w.command("dead-letters", "list", "-c", filepath.Join(w.dir, "zilla.yaml")))
	if code != 0 || !strings.Contains(stdout+stderr, "0 dead letters") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	rows := w.records(tableTopic, 3)
	row := func(key string) *kgo.Record {
		return &kgo.Record{Topic: tableTopic, Partition: wire.Partition([]byte(key), partitions), Key: []byte(key), Value: rows[0].Value}
	}
	w.transaction(row("row-aborted"), row("row-aborted-2"), row("row-aborted-3"))(kgo.TryAbort)
	w.transaction(row("row-committed"), row("row-committed-2"), row("row-committed-3"))(kgo.TryCommit)
	get := func(p *process, key string) int {
		_, _, code := output(t, w.command("keys", "get", key, "--admin-addr", p.admin()))
		return code
	}
	check := func(p *process) {
		t.Helper()
		eventually(t, "a row that is committed", func() bool { return get(p, "row-committed") == 0 })
		if code := get(p, "row-aborted"); code != 1 {
			t.Errorf("keys get of an aborted row: exit code %d", code)
		}
	}
	check(run)
	w.stop(run)

	// Aborted ones are the last of everything, for an instance that has its state and one that has none.
	for range 2 {
		w.transaction(w.request(partitions, "late-1", "aborted")...)(kgo.TryAbort)
		w.transaction(w.request(partitions, "late-2", "aborted")...)(kgo.TryAbort)
		w.transaction(row("row-aborted"), row("row-aborted-2"), row("row-aborted-3"))(kgo.TryAbort)
		run = w.run()
		check(run)
		w.noLag(run, partitions)
		w.stop(run)
		w.state = t.TempDir()
	}
	run = w.run()
	if r := c.call("aborted-3", "valid"); r.err != nil || r.message != "valid" {
		t.Errorf("a stored result is answered %q, %v", r.message, r.err)
	}
	for call, want := range map[string]int{"aborted-": 1, "open-1 ": 1, "open-2 ": 0, "late-": 0, "gate-1 ": 1} {
		if n := w.echo.count("call " + call); n != want {
			t.Errorf("%d calls of %s, want %d", n, call, want)
		}
	}
}

// An instance without its state waits for a result that is behind a transaction of somebody else; without it the key would be
// executed again.
func TestRecoveryBehindAnOpenTransaction(t *testing.T) {
	w := newWorld(t)
	address := w.onFreePorts()
	w.createTopics(1)
	run := w.run()
	c := dial(t, address)
	if r := c.call("first", "hi"); r.err != nil {
		t.Fatal(r.err)
	}
	row := w.records(tableTopic, 1)[0]
	abort := w.transaction(&kgo.Record{Topic: tableTopic, Key: []byte("foreign"), Value: row.Value})
	if r := c.call("second", "hi"); r.err != nil {
		t.Fatal(r.err)
	}
	w.stop(run)
	w.state = t.TempDir()
	run = start(t, w.command("run", "-c", filepath.Join(w.dir, "zilla.yaml"), "--listen", "127.0.0.1", "--state-dir", w.state))
	run.awaitText("the recovery of the table waits for the end of a producer's transaction")
	abort(kgo.TryAbort)
	run.await("ready ")
	if r := c.call("second", "hi"); r.err != nil || r.message != "hi" {
		t.Errorf("answered %q, %v", r.message, r.err)
	}
	if n := w.echo.count("call second "); n != 1 {
		t.Errorf("%d calls", n)
	}
}

// What retention deletes before it is read is told once and counted, and nothing of it is a lag.
func TestRetentionIsFaster(t *testing.T) {
	w := newWorld(t)
	address := w.onFreePorts()
	w.createTopics(1)
	admin := kadm.NewClient(w.client())
	producer := w.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	key := 0
	send := func(n int) {
		t.Helper()
		var records []*kgo.Record
		for range n {
			key++
			records = append(records, w.request(1, fmt.Sprintf("key-%d", key), "hi")...)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := producer.ProduceSync(ctx, records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	deleteAll := func() {
		t.Helper()
		ends, err := admin.ListEndOffsets(t.Context(), requestTopic)
		if err != nil {
			t.Fatal(err)
		}
		deleted, err := admin.DeleteRecords(t.Context(), ends.Offsets())
		if err == nil {
			err = deleted.Error()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const told = "requests were deleted before they were read"
	gone := func(p *process, want func() int) {
		t.Helper()
		eventually(t, "what is gone is counted", func() bool { return w.metric(p, "kafka_grpc_requests_gone_total")[""] == float64(want()) })
		w.noLag(p, 1)
		if n := strings.Count(p.output(), told); n != 1 {
			t.Errorf("told %d times", n)
		}
	}

	send(100)
	deleteAll()
	run := w.run() // a new group on a partition that is empty
	w.noLag(run, 1)
	if strings.Contains(run.output(), told) {
		t.Error("a new group has missed nothing")
	}
	c := dial(t, address)
	if r := c.call("a", "hi"); r.err != nil {
		t.Fatal(r.err)
	}
	w.noLag(run, 1)
	w.stop(run)

	send(20)
	deleteAll()
	run = w.run()
	gone(run, func() int { return 40 })
	w.stop(run)
	run = w.run()
	w.noLag(run, 1)
	if strings.Contains(run.output(), told) {
		t.Error("told again after a restart")
	}

	// In front of an instance that does not read for a moment. A fetch on its way may still bring the first request, or, where
	// the broker ends it late, all that is there by then: another one finds none on its way.
	sent := 0
	for missed := false; !missed; missed = w.echo.count("call key-") < sent {
		if sent > 5*32 {
			t.Fatalf("all of %d requests were read by an instance that stands still", sent)
		}
		run.signal(syscall.SIGSTOP)
		send(1)
		send(30)
		deleteAll()
		send(1)
		sent += 32
		run.signal(syscall.SIGCONT)
		w.echo.await(fmt.Sprintf("call key-%d ", key))
		w.noLag(run, 1)
	}
	gone(run, func() int { return 2 * (sent - w.echo.count("call key-")) })
	if n := w.echo.count("call key-"); n > sent-30 {
		t.Errorf("%d calls of %d", n, sent)
	}
}
