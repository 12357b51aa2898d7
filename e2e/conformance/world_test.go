package conformance_test

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
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
	"google.golang.org/grpc/credentials/insecure"

	"kafkagrpc/e2e/chaos/faults"
	"kafkagrpc/wire/rawcodec"
)

const (
	partitions = 2
	patience   = 30 * time.Second

	deadLetters = "conformance-west_kafka_grpc_remote_server-dead-letters"
	limitTopic  = "limit" // of limitRecords
)

// topics are those of testdata/zilla.yaml, in the order in which the golden files list their records.
var topics = []string{
	"whole-requests", "grown-requests", "written-requests", "asked-requests", "narrow-requests", "one-way-requests",
	"whole-replies", "grown-replies", "written-replies", "asked-replies", deadLetters,
}

//go:embed testdata
var testdata embed.FS

// world is what all scenarios of a run share: a Kafka, the program, and the services that it calls.
type world struct {
	brokers  []string
	kafka    *kgo.Client // writes by hand
	admin    *kadm.Client
	tap      *tap
	service  *service
	raw      *rawService
	instance *faults.Instance
	north    string // address
	conn     *grpc.ClientConn
}

func newWorld(t *testing.T, brokers []string) *world {
	t.Helper()
	// Not the test's own directory, which is gone after a failure.
	dir, err := os.MkdirTemp("", "kafka-grpc-conformance-")
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the program's log: %s", filepath.Join(dir, "log"))
			return
		}
		must(t, os.RemoveAll(dir))
	})
	w := &world{brokers: brokers}
	w.kafka, err = kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), kgo.ProducerBatchMaxBytes(2<<20))
	must(t, err)
	t.Cleanup(w.kafka.Close)
	w.admin = kadm.NewClient(w.kafka)
	w.createTopics(t)
	w.service = newService(t)
	w.raw = newRawService(t)

	files, err := fs.Sub(testdata, "testdata")
	must(t, errors.Join(err, os.CopyFS(filepath.Join(dir, "config"), files)))
	port := freePort(t)
	w.north = net.JoinHostPort("127.0.0.1", port)
	w.instance = &faults.Instance{
		Name: "0", Binary: binary(t), State: filepath.Join(dir, "state"), LogFile: filepath.Join(dir, "log"),
		Args: []string{"-c", filepath.Join(dir, "config", "zilla.yaml"), "--brokers", strings.Join(brokers, ",")},
		Env:  []string{"NORTH_PORT=" + port, "SERVICE_PORT=" + w.service.port, "RAW_PORT=" + w.raw.port},
	}
	must(t, w.instance.Start())
	t.Cleanup(func() { must(t, w.instance.Kill()) })
	must(t, w.instance.WaitReady())
	w.conn, err = grpc.NewClient("passthrough:///"+w.north, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawcodec.Codec{})))
	must(t, err)
	t.Cleanup(func() { must(t, w.conn.Close()) })
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// createTopics makes the topics and waits until the broker shows them: the controller knows them first. The dead-letter topic is the
// program's own to make.
func (w *world) createTopics(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	own := append(slices.Clone(topics[:len(topics)-1]), limitTopic)
	responses, err := w.admin.CreateTopics(ctx, partitions, 1, nil, own...)
	if err == nil {
		err = responses.Error()
	}
	for shown := false; err == nil && !shown; {
		var details kadm.TopicDetails
		if details, err = w.admin.ListTopics(ctx, own...); err == nil {
			shown = details.Error() == nil
		}
	}
	must(t, err)
}

// stop ends the program in order.
func (w *world) stop(t *testing.T) {
	t.Helper()
	must(t, w.instance.Terminate(syscall.SIGTERM, patience))
}

// freePort is below those that systems take for outgoing connections: nobody else gets it while the program is restarted.
func freePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := strconv.Itoa(10000 + rand.IntN(10000))
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			continue
		}
		must(t, l.Close())
		return port
	}
	t.Fatal("found no free port")
	return ""
}

// binaries are built once, and removed at the end.
var binaries struct {
	once sync.Once
	dir  string
	err  error
}

func binary(t testing.TB) string {
	t.Helper()
	path := func() string { return filepath.Join(binaries.dir, "kafka-grpc") }
	binaries.once.Do(func() {
		if binaries.dir, binaries.err = os.MkdirTemp("", "kafka-grpc-conformance-bin-"); binaries.err != nil {
			return
		}
		c := exec.Command("go", "build", "-o", path(), "kafkagrpc/cmd/kafka-grpc")
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			binaries.err = fmt.Errorf("%v: %w\n%s", c, err, out)
		}
	})
	must(t, binaries.err)
	return path()
}
