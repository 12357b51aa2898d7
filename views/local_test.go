package views_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/tablestore"
	"kafkagrpc/views"
)

// noRows are those of an instance that works on nothing.
type noRows struct{}

func (noRows) Owned() ([]int32, int32)                     { return nil, 1 }
func (noRows) Stores([]int32) ([]*tablestore.Store, error) { return nil, errors.ErrUnsupported }

// The broker that knows the members of a group may become another one.
func TestOwnersAreAskedOfTheCoordinatorOfNow(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	local := views.NewLocal(views.LocalConfig{
		Group: group, Topic: topic, Input: topic, Cluster: kafka.Cluster{Brokers: b.kafka.Brokers(), ClientID: "test"}, Rows: noRows{},
		Peers: http.DefaultTransport,
	})
	t.Cleanup(func() {
		if err := local.Close(); err != nil {
			t.Error(err)
		}
	})
	server := httptest.NewServer(views.Handler(local))
	t.Cleanup(server.Close)
	reason := func() string {
		response, err := server.Client().Get(server.URL + "/v1/keys/a")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("%s, %v: %s", response.Status, err, text)
		}
		return string(text)
	}
	const known = "no instance works on partition 0"
	b.eventually("the owners are known", func() bool { return strings.Contains(reason(), known) })
	for range 3 {
		var found atomic.Bool
		b.kafka.Cluster().ControlKey(int16(kmsg.FindCoordinator), func(kmsg.Request) (kmsg.Response, error, bool) {
			found.Store(true)
			return nil, nil, false
		})
		b.kafka.Cluster().ControlKey(int16(kmsg.DescribeGroups), func(request kmsg.Request) (kmsg.Response, error, bool) {
			if found.Load() {
				return nil, nil, false
			}
			b.kafka.Cluster().KeepControl()
			response := request.ResponseKind().(*kmsg.DescribeGroupsResponse)
			g := kmsg.NewDescribeGroupsResponseGroup()
			g.Group, g.ErrorCode = group, kerr.NotCoordinator.Code
			response.Groups = append(response.Groups, g)
			return response, nil, true
		})
		b.eventually("the coordinator is another one", func() bool { return strings.Contains(reason(), "who owns the partitions") })
		b.eventually("the owners are known again", func() bool { return strings.Contains(reason(), known) && found.Load() })
	}
}
