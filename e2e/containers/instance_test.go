package containers_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tcnetwork "github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

const (
	readyTimeout = 90 * time.Second
	stopTimeout  = 45 * time.Second // as the pods' terminationGracePeriodSeconds
	northPort    = "7151/tcp"
)

// instance is the program in a container, with its volume.
type instance struct {
	t       *testing.T
	docker  *testcontainers.DockerClient
	name    string
	service string // address of the service that it calls
	north   string // port on this machine
	logFile string // of all its containers
	// Its way to Kafka, and its way to the service.
	toKafka, toService *testcontainers.DockerNetwork

	container *testcontainers.DockerContainer // nil: not running
}

func (i *instance) volume() string {
	return label + "-" + session + "-" + i.toKafka.Name + "-" + i.name
}

// start begins a container of an image, on the volume that the last one has left.
func (i *instance) start(image string) {
	i.t.Helper()
	host, port, err := net.SplitHostPort(i.service)
	must(i.t, err)
	config, err := filepath.Abs("testdata")
	must(i.t, err)
	_, err = i.docker.VolumeCreate(i.t.Context(), client.VolumeCreateOptions{Name: i.volume(), Labels: map[string]string{label: session}})
	must(i.t, err)
	i.container, err = testcontainers.Run(i.t.Context(), image,
		testcontainers.WithLabels(map[string]string{label: session}),
		testcontainers.WithMounts(testcontainers.VolumeMount(i.volume(), "/var/lib/kafka-grpc")),
		tcnetwork.WithNetwork(nil, i.toKafka), tcnetwork.WithNetwork(nil, i.toService),
		publish(northPort, i.north),
		testcontainers.WithHostConfigModifier(func(h *container.HostConfig) {
			h.Mounts = append(h.Mounts, mount.Mount{Type: mount.TypeBind, Source: config, Target: "/etc/kafka-grpc", ReadOnly: true})
			h.ReadonlyRootfs, h.CapDrop, h.SecurityOpt = true, []string{"ALL"}, []string{"no-new-privileges"}
		}),
		testcontainers.WithEnv(map[string]string{
			"KAFKA_GRPC_INSTANCE_ID": "instance-" + i.name, "KAFKA_GRPC_BROKERS": kafkaInside, "SERVICE_HOST": host, "SERVICE_PORT": port,
		}))
	must(i.t, err)
}

// waitReady waits until the container's own health check says so.
func (i *instance) waitReady() {
	i.t.Helper()
	if err := wait.ForHealthCheck().WithStartupTimeout(readyTimeout).WaitUntilReady(i.t.Context(), i.container); err != nil {
		i.t.Fatalf("instance %s was not healthy within %v: %v\n%s", i.name, readyTimeout, err, logs(i.t, i.container))
	}
}

// stop ends the container in order: SIGTERM, and exit code 0.
func (i *instance) stop() {
	i.t.Helper()
	timeout := stopTimeout
	must(i.t, i.container.Stop(i.t.Context(), &timeout))
	state, err := i.container.State(i.t.Context())
	must(i.t, err)
	if state.ExitCode != 0 {
		i.t.Errorf("instance %s ended an orderly stop with exit code %d", i.name, state.ExitCode)
	}
	i.remove()
}

// kill ends the container as a crash does.
func (i *instance) kill() {
	i.t.Helper()
	_, err := i.docker.ContainerKill(i.t.Context(), i.container.GetContainerID(), client.ContainerKillOptions{Signal: "KILL"})
	must(i.t, err)
	i.remove()
}

// remove keeps the container's log, and the volume.
func (i *instance) remove() {
	i.t.Helper()
	f, err := os.OpenFile(i.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(i.t, err)
	_, err = io.WriteString(f, logs(i.t, i.container)+"-- end of the container\n")
	must(i.t, err)
	must(i.t, f.Close())
	ctx, cancel := context.WithTimeout(context.WithoutCancel(i.t.Context()), time.Minute)
	defer cancel()
	must(i.t, i.container.Terminate(ctx, testcontainers.StopTimeout(0)))
	i.container = nil
}

// lose removes the volume.
func (i *instance) lose() {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(i.t.Context()), time.Minute)
	defer cancel()
	_, err := i.docker.VolumeRemove(ctx, i.volume(), client.VolumeRemoveOptions{})
	must(i.t, err)
}

// cut takes the instance off Kafka's network; heal brings it back.
func (i *instance) cut() {
	i.t.Helper()
	_, err := i.docker.NetworkDisconnect(i.t.Context(), i.toKafka.ID, client.NetworkDisconnectOptions{Container: i.container.GetContainerID()})
	must(i.t, err)
}

func (i *instance) heal() {
	i.t.Helper()
	_, err := i.docker.NetworkConnect(i.t.Context(), i.toKafka.ID, client.NetworkConnectOptions{Container: i.container.GetContainerID()})
	must(i.t, err)
}

// logs is what a container has written.
func logs(t *testing.T, c *testcontainers.DockerContainer) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	r, err := c.Logs(ctx)
	if err != nil {
		return fmt.Sprintf("(no log: %v)\n", err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		return fmt.Sprintf("%s\n(log cut: %v)\n", text, err)
	}
	return string(text)
}

func newInstance(t *testing.T, n int, service, dir string, toKafka, toService *testcontainers.DockerNetwork) *instance {
	t.Helper()
	docker, err := engine()
	must(t, err)
	name := fmt.Sprint(n)
	i := &instance{
		t: t, docker: docker, name: name, service: service, north: freePort(t), logFile: filepath.Join(dir, "instance-"+name+".log"),
		toKafka: toKafka, toService: toService,
	}
	t.Cleanup(func() {
		if i.container != nil {
			i.remove()
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := docker.VolumeRemove(ctx, i.volume(), client.VolumeRemoveOptions{Force: true})
		must(t, err)
	})
	return i
}
