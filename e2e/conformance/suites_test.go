package conformance_test

import (
	"bytes"
	"context"
	"embed"
	bigendian "encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/encoding/protowire"

	"kafkagrpc/e2e/chaos/faults"
	"kafkagrpc/e2e/realkafka"
	"kafkagrpc/internal/embedded"
)

const (
	// What is asked of the suite of ConnectRPC, without TLS: the protocol, and the version of HTTP.
	connectConfig = `features:
  versions: [HTTP_VERSION_%d]
  protocols: [PROTOCOL_%s]
  codecs: [CODEC_PROTO]
  compressions: [COMPRESSION_IDENTITY, COMPRESSION_GZIP]
  supportsTls: false
  supportsMessageReceiveLimit: false
`

	suitePatience = 3 * time.Minute

	// suiteServer makes this binary the server under test that the suite of ConnectRPC starts: it says where one is.
	suiteServer = "KAFKA_GRPC_SUITE_SERVER"
)

// interopCases are those of grpc-go's interop suite that need no credentials, no name service and no reports about load.
var interopCases = []string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream", "timeout_on_sleeping_server",
	"cancel_after_begin", "cancel_after_first_response", "status_code_and_message", "special_status_message", "custom_metadata",
	"unimplemented_method", "unimplemented_service", "rpc_soak", "channel_soak",
}

//go:embed suites
var suiteFiles embed.FS

func TestSuitesOnEmbeddedKafka(t *testing.T) {
	if os.Getenv("KAFKA_GRPC_E2E") != "1" {
		t.Skip("builds and runs the program: run it with KAFKA_GRPC_E2E=1")
	}
	kafka, err := embedded.StartKafka(embedded.KafkaOptions{})
	must(t, err)
	t.Cleanup(kafka.Close)
	runSuites(t, kafka.Brokers())
}

func TestSuitesOnKafka(t *testing.T) {
	runSuites(t, realkafka.Start(t, realkafka.Options{}).Brokers())
}

// runSuites puts the program between the clients and the servers of public suites: what they expect of a server must hold
// through two topics.
func runSuites(t *testing.T, brokers []string) {
	s := newSuites(t, brokers)
	// How many cases the suite has must not have become fewer.
	t.Run("connect", func(t *testing.T) { s.connect(t, "GRPC", 2, 324) })
	t.Run("connect web", func(t *testing.T) { s.connect(t, "GRPC_WEB", 1, 133) })
	t.Run("interop", func(t *testing.T) {
		for _, name := range interopCases {
			t.Run(name, func(t *testing.T) { s.interop(t, name) })
		}
	})
}

// suites are the program, the tools of the suites, and their servers behind the program.
type suites struct {
	dir   string
	tools string // folder
	north string // address of the program
}

func newSuites(t *testing.T, brokers []string) *suites {
	t.Helper()
	s := &suites{dir: t.TempDir()}
	s.tools = suiteTools(t)
	createSuiteTopics(t, brokers)

	config := filepath.Join(s.dir, "config")
	files, err := fs.Sub(suiteFiles, "suites")
	must(t, errors.Join(err, os.CopyFS(config, files)))
	out, err := exec.Command("go", "list", "-C", "../suites", "-m", "-f", "{{.Dir}}", "connectrpc.com/conformance").Output()
	must(t, err)
	must(t, os.CopyFS(config, os.DirFS(filepath.Join(strings.TrimSpace(string(out)), "proto"))))

	port := freePort(t)
	s.north = net.JoinHostPort("127.0.0.1", port)
	instance := &faults.Instance{
		Name: "suites", Binary: binary(t), State: filepath.Join(s.dir, "state"), LogFile: filepath.Join(s.dir, "log"),
		Args: []string{"-c", filepath.Join(config, "zilla.yaml"), "--brokers", strings.Join(brokers, ",")},
		Env:  []string{"NORTH_PORT=" + port, "CONNECT_PORT=" + s.connectServer(t), "INTEROP_PORT=" + s.interopServer(t)},
	}
	must(t, instance.Start())
	t.Cleanup(func() {
		err := instance.Terminate(syscall.SIGTERM, patience)
		if err != nil || t.Failed() {
			log, _ := os.ReadFile(instance.LogFile)
			t.Errorf("the program's log (%v):\n%s", err, log)
		}
	})
	must(t, instance.WaitReady())
	return s
}

func createSuiteTopics(t *testing.T, brokers []string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	must(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	responses, err := kadm.NewClient(client).CreateTopics(ctx, partitions, 1, nil, "suite-requests", "suite-replies")
	must(t, errors.Join(err, responses.Error()))
}

// suiteTools builds the tools of the suites, which have a module of their own, into the folder of the program's binary.
func suiteTools(t *testing.T) string {
	t.Helper()
	dir := filepath.Dir(binary(t))
	if _, err := os.Stat(filepath.Join(dir, "connectconformance")); err == nil {
		return dir
	}
	c := exec.Command("go", "build", "-C", "../suites", "-o", dir+string(filepath.Separator), "tool", "./interopserver")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", c, err, out)
	}
	return dir
}

// serve runs a server of a suite until the test ends, and gives its output to port, which answers the one of 127.0.0.1 that
// it listens on.
func (s *suites) serve(t *testing.T, name string, stdin io.Reader, port func(io.Reader) (string, error)) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, filepath.Join(s.tools, name))
	c.Stdin, c.Stderr = stdin, os.Stderr
	stdout, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	t.Cleanup(func() {
		cancel()
		_ = c.Wait() // killed
	})
	listens, err := port(stdout)
	if err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	return listens
}

func (s *suites) interopServer(t *testing.T) string {
	return s.serve(t, "interopserver", nil, func(out io.Reader) (string, error) {
		var address string
		if _, err := fmt.Fscanln(out, &address); err != nil {
			return "", err
		}
		_, port, err := net.SplitHostPort(address)
		return port, err
	})
}

// The fields of the messages by which a server of ConnectRPC's suite is told what it must speak, and answers where it does.
// Each has its length before it, in four bytes.
const (
	fieldProtocol    protowire.Number = 1
	fieldHTTPVersion protowire.Number = 2
	fieldLimit       protowire.Number = 6 // of the size of messages, which the server takes by the letter
	fieldHost        protowire.Number = 1
	fieldPort        protowire.Number = 2

	protocolGRPC = 2
	http2        = 2
)

func (s *suites) connectServer(t *testing.T) string {
	request := protowire.AppendVarint(protowire.AppendTag(nil, fieldProtocol, protowire.VarintType), protocolGRPC)
	request = protowire.AppendVarint(protowire.AppendTag(request, fieldHTTPVersion, protowire.VarintType), http2)
	request = protowire.AppendVarint(protowire.AppendTag(request, fieldLimit, protowire.VarintType), 4<<20)
	return s.serve(t, "grpcserver", bytes.NewReader(sized(request)), func(out io.Reader) (string, error) {
		response, err := readSized(out)
		if err != nil {
			return "", err
		}
		for len(response) > 0 {
			number, kind, n := protowire.ConsumeField(response)
			if n < 0 {
				return "", protowire.ParseError(n)
			}
			_, _, tag := protowire.ConsumeTag(response)
			if number == fieldPort && kind == protowire.VarintType {
				port, _ := protowire.ConsumeVarint(response[tag:])
				return strconv.FormatUint(port, 10), nil
			}
			response = response[n:]
		}
		return "", errors.New("it tells no port")
	})
}

// serveSuite is what this binary does in place of tests where the suite starts it as the server under test.
func serveSuite(address string) error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	if _, err := readSized(os.Stdin); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return err
	}
	response := protowire.AppendString(protowire.AppendTag(nil, fieldHost, protowire.BytesType), host)
	response = protowire.AppendVarint(protowire.AppendTag(response, fieldPort, protowire.VarintType), number)
	if _, err := os.Stdout.Write(sized(response)); err != nil {
		return err
	}
	<-ended
	return nil
}

func sized(message []byte) []byte {
	return append(bigendian.BigEndian.AppendUint32(nil, uint32(len(message))), message...)
}

func readSized(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	message := make([]byte, bigendian.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(r, message)
	return message, err
}

var connectTotal = regexp.MustCompile(`(?m)^Total cases: (\d+)\n(\d+) passed, (\d+) failed`)

func (s *suites) connect(t *testing.T, protocol string, version, least int) {
	config := filepath.Join(s.dir, "connect.yaml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, connectConfig, version, protocol), 0o600))
	self, err := os.Executable()
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), suitePatience)
	defer cancel()
	c := exec.CommandContext(ctx, filepath.Join(s.tools, "connectconformance"), "--mode", "server", "--conf", config, "--", self)
	c.Env = append(os.Environ(), suiteServer+"="+s.north)
	out, err := c.CombinedOutput()
	total := connectTotal.FindSubmatch(out)
	if err != nil || total == nil {
		t.Fatalf("%v: %v\n%s", c, err, out)
	}
	if cases, _ := strconv.Atoi(string(total[2])); cases < least {
		t.Errorf("%s; want %d passed", total[0], least)
	}
	t.Logf("%s", total[0])
}

func (s *suites) interop(t *testing.T, name string) {
	host, port, err := net.SplitHostPort(s.north)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), suitePatience)
	defer cancel()
	c := exec.CommandContext(ctx, filepath.Join(s.tools, "client"), "-server_host", host, "-server_port", port, "-test_case", name)
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v: %v\n%s", c, err, out)
	}
}
