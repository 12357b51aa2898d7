package containers_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"

	"kafkagrpc/e2e/containers/kafkaimage"
)

// label is on everything that the tests make, with a value of this run.
const label = "kafka-grpc-e2e"

var session = strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(time.Now().Unix(), 36)

// sweepTimeout is for the removal of everything.
const sweepTimeout = time.Minute

func TestMain(m *testing.M) {
	flag.Parse()
	// Neither a time-out of the tests nor a signal runs their cleanups.
	limit, _ := time.ParseDuration(flag.Lookup("test.timeout").Value.String())
	if limit > sweepTimeout {
		time.AfterFunc(limit-sweepTimeout, func() { abort(fmt.Sprintf("the tests have run for %v: removing what they made", limit-sweepTimeout)) })
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() { abort(fmt.Sprintf("%v: removing what the tests made", <-interrupted)) }() // for the whole process
	code := m.Run()
	if err := sweep(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func abort(why string) {
	fmt.Fprintln(os.Stderr, why)
	if err := sweep(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(1)
}

// engine is the Docker engine.
var engine = sync.OnceValues(func() (*testcontainers.DockerClient, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	docker, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		return nil, err
	}
	_, err = docker.Ping(ctx, client.PingOptions{})
	return docker, err
})

// used says whether a test has got as far as the engine.
var used bool

// need skips a test where no Docker engine can be had. Where CI is set, it fails the test instead.
func need(t *testing.T) *testcontainers.DockerClient {
	t.Helper()
	if os.Getenv("KAFKA_GRPC_E2E") != "1" {
		t.Skip("needs a Docker engine: run it with KAFKA_GRPC_E2E=1")
	}
	docker, err := engine()
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("needs a Docker engine: %v", err)
		}
		t.Skipf("needs a Docker engine: %v", err)
	}
	used = true
	return docker
}

// sweep removes what has the label of this run: nothing, after tests that ended by themselves, but images.
func sweep() error {
	if !used {
		return nil
	}
	docker, err := engine()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), sweepTimeout)
	defer cancel()
	ours := make(client.Filters).Add("label", label+"="+session)
	var errs []error
	containers, err := docker.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: ours})
	errs = append(errs, err)
	for _, c := range containers.Items {
		_, err := docker.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		errs = append(errs, err)
	}
	networks, err := docker.NetworkList(ctx, client.NetworkListOptions{Filters: ours})
	errs = append(errs, err)
	for _, n := range networks.Items {
		_, err := docker.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{})
		errs = append(errs, err)
	}
	volumes, err := docker.VolumeList(ctx, client.VolumeListOptions{Filters: ours})
	errs = append(errs, err)
	for _, v := range volumes.Items {
		_, err := docker.VolumeRemove(ctx, v.Name, client.VolumeRemoveOptions{Force: true})
		errs = append(errs, err)
	}
	images, err := docker.ImageList(ctx, client.ImageListOptions{Filters: ours})
	errs = append(errs, err)
	for _, i := range images.Items {
		_, err := docker.ImageRemove(ctx, i.ID, client.ImageRemoveOptions{Force: true, PruneChildren: true})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// images are built once for all tests.
var images struct {
	sync.Mutex
	built map[string]bool
}

// programImage builds the program's own image, as `task image` does, with a version.
func programImage(t *testing.T, version string) string {
	t.Helper()
	return image(t, "kafka-grpc-e2e:"+session+"-"+version, func(ctx context.Context, tag string) error {
		c := exec.CommandContext(ctx, "../../deploy/image", tag, version, "--label", label+"="+session)
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", c, err, out)
		}
		return nil
	})
}

func kafkaImage(t *testing.T) string {
	t.Helper()
	if given := os.Getenv("KAFKA_GRPC_KAFKA_IMAGE"); given != "" {
		return given
	}
	return image(t, "kafka-grpc-e2e-kafka:"+session, func(ctx context.Context, tag string) error {
		return kafkaimage.Build(ctx, tag, label+"="+session)
	})
}

func image(t *testing.T, tag string, build func(ctx context.Context, tag string) error) string {
	t.Helper()
	images.Lock()
	defer images.Unlock()
	if images.built[tag] {
		return tag
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := build(ctx, tag); err != nil {
		t.Fatal(err)
	}
	if images.built == nil {
		images.built = map[string]bool{}
	}
	images.built[tag] = true
	return tag
}
