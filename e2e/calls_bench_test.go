package e2e

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/e2e/realkafka"
	"kafkagrpc/e2e/streams"
)

// Who answers the calls of a turn.
const (
	directName  = "direct"  // the service itself, called without Kafka
	floorName   = "floor"   // e2e/floor
	programName = "program" // kafka-grpc as it is here
	baseName    = "base"    // an older one

	exactlyOnceName  = "exactly-once" // kafka-grpc with that guarantee
	streamsName      = "streams"      // e2e/streams, as Kafka Streams is by default
	quickStreamsName = "streams-10ms" // with ten times as many transactions
)

// transactional are those who answer in transactions. They are measured only where KAFKA_GRPC_BENCH_CASES is set, and selects them.
var transactional = []string{exactlyOnceName, streamsName, quickStreamsName}

func isStreams(who string) bool { return who == streamsName || who == quickStreamsName }

// benchCase is a kind of load.
type benchCase struct {
	north      bool // calls through the server in front, else records on the topics
	partitions int32
	message    int // bytes
	inFlight   int
}

// benchCases are all of them, those that differ in the number of calls in flight side by side.
func benchCases() (all []benchCase) {
	for _, north := range []bool{false, true} {
		for _, partitions := range []int32{8, 64} {
			for _, message := range []int{100, 1 << 10, 16 << 10} {
				for _, inFlight := range []int{2000, 50, 1} {
					all = append(all, benchCase{north, partitions, message, inFlight})
				}
			}
		}
	}
	return all
}

// usualCases vary one thing at a time: a third of all of them.
const usualCases = `/8p/1KiB/|/(64p/1KiB|8p/100B|8p/16KiB)/2000/`

func (c benchCase) String() string {
	over := "topics"
	if c.north {
		over = "north"
	}
	return fmt.Sprintf("%s/%dp/%s/%d", over, c.partitions, c.size(), c.inFlight)
}

func (c benchCase) name(who string) string { return c.String() + "/" + who }

// selected says whether somebody is to answer calls of this kind. Kafka Streams has no server in front.
func (c benchCase) selected(by *regexp.Regexp, who string) bool {
	return by.MatchString(c.name(who)) && !(c.north && isStreams(who))
}

func (c benchCase) size() string {
	if c.message < 1<<10 {
		return fmt.Sprintf("%dB", c.message)
	}
	return fmt.Sprintf("%dKiB", c.message>>10)
}

func (c benchCase) words() string {
	over := "over topics"
	if c.north {
		over = "from gRPC to gRPC"
	}
	return fmt.Sprintf("%s calls in flight %s, %d partitions, messages of %s", number(float64(c.inFlight)), over, c.partitions, c.size())
}

func (c benchCase) payload() []byte {
	return bytes.Repeat([]byte("kafka-grpc"), c.message/10+1)[:c.message]
}

// BenchmarkCalls measures calls of many kinds. Whoever answers them takes turns with the others, all on one broker that has been
// warmed up, each turn with topics of its own that nothing of the others is on. The environment says what is measured:
//
//	KAFKA_GRPC_BENCH        how long a turn is measured, default 40s
//	KAFKA_GRPC_BENCH_CASES  a regular expression for over/partitions/message/in flight/who, default usualCases without transactional
//	KAFKA_GRPC_BENCH_RUNS   turns of each, of whose figures the medians are shown, default 1
//	KAFKA_GRPC_BENCH_BASE   another binary of the program, which takes turns with this one
func BenchmarkCalls(b *testing.B) {
	realkafka.Need(b)
	long, err := time.ParseDuration(cmp.Or(os.Getenv("KAFKA_GRPC_BENCH"), "40s"))
	if err != nil {
		b.Fatal(err)
	}
	runs, err := strconv.Atoi(cmp.Or(os.Getenv("KAFKA_GRPC_BENCH_RUNS"), "1"))
	if err != nil || runs < 1 {
		b.Fatalf("KAFKA_GRPC_BENCH_RUNS: %d, %v", runs, err)
	}
	selected, err := regexp.Compile(cmp.Or(os.Getenv("KAFKA_GRPC_BENCH_CASES"), usualCases))
	if err != nil {
		b.Fatal(err)
	}
	all := []string{directName, floorName, programName}
	if os.Getenv("KAFKA_GRPC_BENCH_BASE") != "" {
		all = append(all, baseName)
	}
	warm, transactions := []string{programName, floorName}, false
	if os.Getenv("KAFKA_GRPC_BENCH_CASES") != "" {
		all = append(all, transactional...)
		for _, who := range transactional {
			if slices.ContainsFunc(benchCases(), func(c benchCase) bool { return c.selected(selected, who) }) {
				warm, transactions = append(warm, who), true
				break // the others ask the same of the broker
			}
		}
	}
	w := newWorldOn(b, realkafka.Options{Lasting: true, Properties: map[string]string{"file.delete.delay.ms": "1000"}}, "-quiet")
	w.warmUp(b, warm, max(long/4, 5*time.Second))

	shown, turns := newTable(floorName), 0
	beside := newTable(programName) // of those who answer in transactions
	var readme strings.Builder
	for _, c := range benchCases() {
		measured := map[string][]figures{}
		for run := range runs {
			order := slices.Clone(all)
			if run%2 == 1 {
				slices.Reverse(order) // whoever comes first may have it better
			}
			for _, who := range order {
				if !c.selected(selected, who) {
					continue
				}
				turns++
				b.Run(c.name(who), func(b *testing.B) {
					f := w.turn(b, c, who, long)
					f.report(b)
					measured[who] = append(measured[who], f)
				})
			}
		}
		medians := map[string]figures{}
		for who, turns := range measured {
			medians[who] = median(turns)
		}
		for _, who := range all {
			if f, ok := medians[who]; ok {
				shown.add(c.String(), who, f, medians[floorName])
				if who == programName || slices.Contains(transactional, who) {
					beside.add(c.String(), who, f, medians[programName])
				}
			}
		}
		if f, ok := medians[programName]; ok {
			fmt.Fprintf(&readme, "| %s, real Kafka, 2 cores for everything | %s |\n", c.words(), f.words(medians[floorName]))
		}
	}
	if turns == 0 {
		b.Fatalf("KAFKA_GRPC_BENCH_CASES=%s is nothing that there is, such as topics/8p/1KiB/2000/program", selected)
	}
	fmt.Printf("\nFor docs/performance.md, medians of %d turns of %s:\n\n%s\nFor the README:\n\n%s\n", runs, long, shown, &readme)
	if transactions {
		fmt.Printf("For docs/performance.md, beside transactions:\n\n%s\n", beside)
	}
}

// warmUp uses the broker until it does not get cheaper any more: its JIT takes minutes, in which it costs four times as much. Few large
// requests would leave cold what many small ones need.
func (w *world) warmUp(b *testing.B, all []string, long time.Duration) {
	const (
		enough = 0.9 // of what it cost at best: above that it did not get cheaper
		rounds = 12
	)
	best := time.Duration(math.MaxInt64)
	for n, same := 0, 0; n < rounds && same < 2 && !b.Failed(); n++ {
		var cost time.Duration
		for _, who := range all {
			inFlight := 2000
			if who == floorName {
				inFlight = 50
			}
			b.Run("warm-up/"+who, func(b *testing.B) {
				f := w.turn(b, benchCase{partitions: 8, message: 1 << 10, inFlight: inFlight}, who, long)
				f.report(b)
				cost += f.kafka
			})
		}
		if same++; cost > 0 && float64(cost) < enough*float64(best) {
			same = 0
		}
		best = min(best, cost)
	}
}

// turn is one measurement of one of those who answer.
type turn struct {
	*world
	benchCase
	settle   time.Duration // calls are made for so long before they are measured
	prefix   string        // of the names of everything that the turn has on Kafka
	requests string
	replies  string
	table    string
}

func (w *world) turn(b *testing.B, c benchCase, who string, long time.Duration) figures {
	b.Helper()
	t := &turn{world: &world{t: b, kafka: w.kafka, echo: w.echo, addr: w.addr, dir: b.TempDir(), state: b.TempDir()}, benchCase: c, settle: long / 8}
	t.prefix = "bench-" + strings.ToLower(rand.Text()[:8])
	t.requests, t.replies, t.table = t.prefix+"-requests", t.prefix+"-responses", t.prefix+strings.TrimPrefix(group, "example")+"-table"
	if who == directName {
		return t.measure(long, overGRPC(t.callers(w.addr), c, c.most()), nil)
	}
	t.create(c.partitions, nil, t.requests, t.replies)
	defer t.forget()
	if isStreams(who) {
		t.settle = 3 * long // the JIT compiler takes a third of what it costs before
	}
	p, address := t.begin(who, w.dir)
	var calls load
	if c.north {
		calls = overGRPC(t.callers(address), c, c.most())
	} else {
		calls = overTopics(t.client(kgo.ConsumeTopics(t.replies), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(time.Second),
			kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordDeliveryTimeout(patience)), c, t.requests, t.replies)
	}
	f := t.measure(long, calls, p)
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 {
		b.Errorf("exit code %d: %s", code, p.output())
	}
	return f
}

// begin starts who answers, and answers the address to call it on, of which only north knows.
func (t *turn) begin(who, seed string) (p *process, address string) {
	t.t.Helper()
	var c *exec.Cmd
	switch {
	case isStreams(who):
		c = t.streams(who)
	case who == floorName:
		c = t.floor(t.prefix, t.requests, t.replies, t.table, t.partitions)
		if t.north {
			c.Args = append(c.Args, "-listen", "127.0.0.1:0")
		}
	default:
		if err := os.CopyFS(t.dir, os.DirFS(seed)); err != nil {
			t.t.Fatal(err)
		}
		t.rewrite("name: example\n", "name: "+t.prefix+"\n", requestTopic, t.requests, replyTopic, t.replies)
		if who == exactlyOnceName {
			t.rewrite(remoteOptions, remoteOptions+"      processing:\n        guarantee: exactly-once\n")
		}
		address = t.onFreePorts()
		c = t.command("run", "-c", filepath.Join(t.dir, "zilla.yaml"), "--listen", "127.0.0.1", "--state-dir", t.state)
		if who == baseName {
			c.Path = os.Getenv("KAFKA_GRPC_BENCH_BASE")
		}
	}
	// The line of each call is written, and costs what it costs, but this process would spend more to read it.
	nowhere, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.t.Fatal(err)
	}
	defer nowhere.Close()
	if !isStreams(who) { // which writes none, but that it is ready
		c.Stdout = nowhere
	}
	p = start(t.t, c)
	ready := p.await("ready")
	if who == floorName {
		address = strings.TrimPrefix(ready, "ready ")
	}
	return p, address
}

// remoteOptions are those of the seed's processor, as far as they go.
const remoteOptions = "    entry: north_kafka_cache_client\n    options:\n"

func (t *turn) streams(who string) *exec.Cmd {
	t.t.Helper()
	streams.Need(t.t)
	o := streams.Options{Brokers: strings.Join(t.kafka.Brokers(), ","), Application: t.prefix, Requests: t.requests, Replies: t.replies,
		Target: t.addr, StateDir: t.state}
	if who == quickStreamsName {
		o.Commit = 10 * time.Millisecond
	}
	c, err := streams.Command(t.t.Context(), o)
	if err != nil {
		t.t.Fatal(err)
	}
	t.table = o.Changelog()
	return c
}

func (t *turn) callers(address string) []caller {
	t.t.Helper()
	all := make([]caller, min(connections, t.inFlight))
	for i := range all {
		all[i] = dial(t.t, address)
	}
	return all
}

// measure makes the calls of a load, and measures once it has settled. p is nil where nobody but the service answers.
func (t *turn) measure(long time.Duration, calls load, p *process) (f figures) {
	t.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	made := new(tally)
	ended := make(chan error, 1)
	go func() { ended <- calls(ctx, made) }()
	var failed error
	over := false
	wait := func(d time.Duration) {
		if over {
			return
		}
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case failed = <-ended: // it made as many as it may
			over = true
		}
	}
	wait(t.settle)
	made.start()
	before := t.spent(p)
	wait(long)
	made.stop()
	after := t.spent(p)
	stop()
	if !over {
		failed = <-ended // patience bounds it
	}
	slices.Sort(made.took)
	n := len(made.took)
	switch {
	case failed != nil:
		t.t.Fatal(failed)
	case n == 0:
		t.t.Fatal("no call was answered in time")
	case p != nil:
		t.count(made.made)
	}
	f = figures{rate: float64(n) / made.spent.Seconds(), p50: made.took[n/2], p99: made.took[n*99/100], cpu: -1, kafka: -1, peak: -1}
	f.load = (after.load - before.load) / time.Duration(n)
	if p != nil {
		f.cpu = (after.cpu - before.cpu) / time.Duration(n)
		f.peak = p.memory("VmHWM:")
		if _, own := t.kafka.PID(); own {
			f.kafka = (after.kafka - before.kafka) / time.Duration(n)
		}
	}
	return f
}

// usage is what processes have had of the processors since they began.
type usage struct{ cpu, kafka, load time.Duration }

func (t *turn) spent(p *process) (u usage) {
	t.t.Helper()
	of := func(pid int) time.Duration {
		d, err := spent(pid)
		if err != nil {
			t.t.Fatal(err)
		}
		return d
	}
	u.load = of(os.Getpid())
	if p != nil {
		u.cpu = of(p.cmd.Process.Pid)
	}
	if pid, own := t.kafka.PID(); own {
		u.kafka = of(pid)
	}
	return u
}

// count checks that each request has two records of a reply, and a row.
func (t *turn) count(requests int) {
	t.t.Helper()
	if n := t.committed(t.replies); n != 2*requests {
		t.t.Errorf("%d requests have %d records of replies", requests, n)
	}
	if n := t.written(kadm.NewClient(t.client()), t.table); n < int64(requests) {
		t.t.Errorf("%d requests have %d rows", requests, n)
	}
}

// committed is how many records of a topic are committed. Offsets do not tell: the ends of transactions have some, too.
func (t *turn) committed(topic string) (n int) {
	t.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ends, err := kadm.NewClient(t.client()).ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		t.t.Fatal(err)
	}
	left := map[int32]int64{} // ends of partitions that are not read yet
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	client := t.client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords())
	defer client.Close()
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				n++
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return n
}

// forget deletes what the turn has on Kafka, which would be in the way of the next one.
func (t *turn) forget() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	admin := kadm.NewClient(t.client())
	topics, err := admin.ListTopics(ctx)
	if err != nil {
		t.t.Error(err)
		return
	}
	names := slices.DeleteFunc(topics.Names(), func(name string) bool { return !strings.HasPrefix(name, t.prefix) })
	deleted, err := admin.DeleteTopics(ctx, names...)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		t.t.Error(err)
	}
}
