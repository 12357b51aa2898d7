package kafka_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/pkitest"
	"kafkagrpc/wire"
)

// crowd is a cluster of several brokers, each of which can fall silent: it takes connections and requests, and does
// nothing with them until it is over.
type crowd struct {
	*kfake.Cluster

	mu      sync.Mutex
	change  *sync.Cond
	over    bool
	silent  map[string]bool                    // by address: all connections
	hanging map[*crowdConn]bool                // single ones
	open    map[string]map[*crowdConn]struct{} // by address
}

func startCrowd(t *testing.T, options ...kfake.Opt) *crowd {
	t.Helper()
	c := &crowd{silent: map[string]bool{}, hanging: map[*crowdConn]bool{}, open: map[string]map[*crowdConn]struct{}{}}
	c.change = sync.NewCond(&c.mu)
	cluster, err := kfake.NewCluster(append(options, kfake.NumBrokers(3), kfake.SeedTopics(1, "t"), kfake.ListenFn(c.listen),
		kfake.BrokerConfigs(map[string]string{"default.replication.factor": "1", "group.initial.rebalance.delay.ms": "0"}))...)
	if err != nil {
		t.Fatal(err)
	}
	c.Cluster = cluster
	t.Cleanup(func() {
		c.set(func() { c.over = true })
		cluster.Close()
	})
	return c
}

func (c *crowd) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	c.change.Broadcast()
}

// fall makes a broker silent, on all connections and those to come.
func (c *crowd) fall(address string) { c.set(func() { c.silent[address] = true }) }

// rise ends the silence.
func (c *crowd) rise(address string) { c.set(func() { delete(c.silent, address) }) }

// hang makes a broker silent on the connections that there are. It answers on others.
func (c *crowd) hang(address string) {
	c.set(func() {
		for conn := range c.open[address] {
			c.hanging[conn] = true
		}
	})
}

func (c *crowd) listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	return crowdListener{l, c}, nil
}

type crowdListener struct {
	net.Listener
	crowd *crowd
}

func (l crowdListener) Accept() (net.Conn, error) {
	inner, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &crowdConn{Conn: inner, crowd: l.crowd, address: l.Addr().String()}
	l.crowd.set(func() {
		if l.crowd.open[c.address] == nil {
			l.crowd.open[c.address] = map[*crowdConn]struct{}{}
		}
		l.crowd.open[c.address][c] = struct{}{}
	})
	return c, nil
}

type crowdConn struct {
	net.Conn
	crowd   *crowd
	address string
	closed  bool // guarded by crowd.mu
}

// wait returns when the broker is not silent on this connection.
func (c *crowdConn) wait() {
	c.crowd.mu.Lock()
	defer c.crowd.mu.Unlock()
	for (c.crowd.silent[c.address] || c.crowd.hanging[c]) && !c.closed && !c.crowd.over {
		c.crowd.change.Wait()
	}
}

func (c *crowdConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.wait()
	return n, err
}

func (c *crowdConn) Write(b []byte) (int, error) {
	c.wait()
	return c.Conn.Write(b)
}

func (c *crowdConn) Close() error {
	c.crowd.set(func() {
		c.closed = true
		delete(c.crowd.open[c.address], c)
		delete(c.crowd.hanging, c)
	})
	return c.Conn.Close()
}

// address is that of a broker.
func (c *crowd) address(t *testing.T, node int32) string {
	t.Helper()
	for _, b := range c.nodes(t) {
		if b.ID() == node {
			return b.Addr()
		}
	}
	t.Fatalf("no broker %d", node)
	return ""
}

func (c *crowd) nodes(t *testing.T) []*sarama.Broker {
	t.Helper()
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	client, err := sarama.NewClient(c.ListenAddrs(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	return client.Brokers()
}

// silentSeed takes connections and never answers. It is a broker of no cluster.
func silentSeed(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// clients are all that connect to Kafka, each with a use of it. Topic t is there, with a partition.
var clients = map[string]func(*testing.T, kafka.Cluster) error{
	"topics": func(_ *testing.T, c kafka.Cluster) error {
		topics, err := kafka.OpenTopics(c)
		if err != nil {
			return err
		}
		if err := new(kafka.Limits).Learn(topics, "t"); err != nil {
			return errors.Join(err, topics.Close())
		}
		_, err = topics.Members("g")
		return errors.Join(err, topics.Close())
	},
	"producer": func(_ *testing.T, c kafka.Cluster) error {
		p, err := kafka.NewProducer(c)
		if err != nil {
			return err
		}
		answer := make(chan error, 1)
		p.Send(wire.Record{Topic: "t", Value: []byte("v")}, func(_ int64, err error) { answer <- err })
		return errors.Join(<-answer, p.Close())
	},
	"fenced producer": func(_ *testing.T, c kafka.Cluster) error {
		p, err := kafka.NewFencedProducer(c, func() error { return nil })
		if err != nil {
			return err
		}
		answer := make(chan error, 1)
		p.Send(wire.Record{Topic: "t", Value: []byte("v")}, func(_ int64, err error) { answer <- err })
		return errors.Join(<-answer, p.Close())
	},
	"tail": func(t *testing.T, c kafka.Cluster) error {
		tail, err := kafka.NewTail(t.Context(), c, []string{"t"}, func(wire.Record) {}, nil, testLog(t))
		if err != nil {
			return err
		}
		return tail.Close()
	},
	"reader": func(t *testing.T, c kafka.Cluster) error {
		r, err := kafka.NewReader(c)
		if err != nil {
			return err
		}
		spans, err := r.Spans("t")
		if err == nil {
			err = r.Read(t.Context(), "t", spans[0], func(wire.Record) error { return nil })
		}
		return errors.Join(err, r.Close())
	},
	"table reader": func(t *testing.T, c kafka.Cluster) error {
		client, err := sarama.NewClient(c.Brokers, c.ConsumerConfig())
		if err != nil {
			return err
		}
		_, err = client.GetOffset("t", 0, sarama.OffsetNewest)
		return errors.Join(err, client.Close())
	},
	"group": func(t *testing.T, c kafka.Cluster) error {
		g, err := kafka.NewGroup(c, kafka.Membership{Group: "g", Drain: time.Second})
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err = g.Consume(ctx, []string{"t"}, leaver(cancel))
		return errors.Join(err, g.Close())
	},
	"member": func(_ *testing.T, c kafka.Cluster) error {
		m, err := kafka.NewMember(c, "g", "", 4*time.Second)
		if err != nil {
			return err
		}
		return errors.Join(answered(m.Heartbeat("nobody", 1)), m.Close())
	},
	"committed": func(_ *testing.T, c kafka.Cluster) error {
		_, err := c.Committed("g", map[string][]int32{"t": {0}})
		return answered(err)
	},
	"ping": func(t *testing.T, c kafka.Cluster) error { return c.Ping(t.Context()) },
	"probe": func(_ *testing.T, c kafka.Cluster) error {
		for _, b := range c.Probe() {
			if b.Err == nil {
				return nil
			}
		}
		return errors.New("none can be used")
	},
}

// answered takes a coordinator's answer that it knows no such group or member for one.
func answered(err error) error {
	if errors.Is(err, kerr.GroupIDNotFound) || errors.Is(err, sarama.ErrGroupIDNotFound) || errors.Is(err, sarama.ErrUnknownMemberId) {
		return nil
	}
	return err
}

// leaver is a member of a group that leaves it when it has partitions.
type leaver context.CancelFunc

func (l leaver) Setup(sarama.ConsumerGroupSession) error { l(); return nil }
func (leaver) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (leaver) ConsumeClaim(sarama.ConsumerGroupSession, sarama.ConsumerGroupClaim) error {
	return nil
}

// patient leaves a test that waits for brokers which do not answer out of short runs.
func patient(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("waits for brokers that do not answer")
	}
}

// A broker of the list that takes connections and does not answer is passed by, wherever it stands, and whatever is asked.
func TestSilentSeed(t *testing.T) {
	patient(t)
	t.Parallel()
	authority := pkitest.NewAuthority(t, "authority")
	server := &tls.Config{Certificates: []tls.Certificate{authority.Issue(t, "127.0.0.1")}}
	trust := &tls.Config{RootCAs: authority.Pool()}
	user := []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "ann", "secret-word")}
	ways := map[string]struct {
		server []kfake.Opt
		client kafka.Cluster
	}{
		"plaintext":    {},
		"TLS":          {[]kfake.Opt{kfake.TLS(server)}, kafka.Cluster{TLS: trust}},
		"SASL":         {user, kafka.Cluster{SASL: sasl(sarama.SASLTypeSCRAMSHA512, "ann", "secret-word")}},
		"TLS and SASL": {append(user, kfake.TLS(server)), kafka.Cluster{TLS: trust, SASL: sasl(sarama.SASLTypeSCRAMSHA512, "ann", "secret-word")}},
	}
	for way, w := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			good := secured(t, w.server...)
			useAll(t, func(t *testing.T, at int) kafka.Cluster {
				c := w.client
				c.Brokers = slices.Insert([]string{good[0], closedPort(t)}, at, silentSeed(t))
				return c
			})
		})
	}
}

// Several of them are, too.
func TestSilentSeeds(t *testing.T) {
	patient(t)
	t.Parallel()
	_, good := start(t, map[string]int32{"t": 1})
	useAll(t, func(t *testing.T, at int) kafka.Cluster {
		c := good
		c.Brokers = slices.Insert([]string{silentSeed(t), silentSeed(t)}, at, good.Brokers[0])
		return c
	})
}

// useAll uses all clients, each with three clusters, at the same time.
func useAll(t *testing.T, cluster func(*testing.T, int) kafka.Cluster) {
	t.Helper()
	var uses sync.WaitGroup
	for name, use := range clients {
		for at := range 3 {
			c := cluster(t, at)
			uses.Go(func() {
				begun := time.Now()
				if err := use(t, c); err != nil {
					t.Errorf("%s, %d: %v", name, at, err)
				}
				t.Logf("%s, %d: %v", name, at, time.Since(begun).Round(time.Millisecond))
			})
		}
	}
	uses.Wait()
}

// A broker that the cluster counts among its own, and that does not answer, is passed by as well, where it leads nothing that
// is asked for.
func TestSilentBroker(t *testing.T) {
	patient(t)
	t.Parallel()
	useAll(t, func(t *testing.T, node int) kafka.Cluster {
		k := startCrowd(t)
		leaveTo(t, k, int32(node))
		k.fall(k.address(t, int32(node)))
		return kafka.Cluster{Brokers: k.ListenAddrs()}
	})
}

// leaveTo makes others of a broker's leaderships.
func leaveTo(t *testing.T, k *crowd, node int32) {
	t.Helper()
	if err := k.MoveTopicPartition("t", 0, (node+1)%3); err != nil {
		t.Fatal(err)
	}
	for k.CoordinatorFor("g") == node {
		k.RehashCoordinators()
	}
}

// A leader that falls silent while it is used is waited for no longer than another one needs to take its place, whether it
// answers on other connections or not.
func TestLeaderFallsSilent(t *testing.T) {
	patient(t)
	t.Parallel()
	for name, fall := range falls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := startCrowd(t)
			c := kafka.Cluster{Brokers: k.ListenAddrs()}
			p := newProducer(t, c)
			arrived := make(chan string, 10)
			tail, err := kafka.NewTail(t.Context(), c, []string{"t"}, func(r wire.Record) { arrived <- string(r.Value) }, nil, testLog(t))
			if err != nil {
				t.Fatal(err)
			}
			defer tail.Close()
			reader := newReader(t, c)
			produce(t, p, wire.Record{Topic: "t", Value: []byte("before")})
			if got := <-arrived; got != "before" {
				t.Fatal(got)
			}
			leader := k.LeaderFor("t", 0)
			fall(k, k.address(t, leader))
			if err := k.MoveTopicPartition("t", 0, (leader+1)%3); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			var uses sync.WaitGroup
			uses.Go(func() {
				produce(t, p, wire.Record{Topic: "t", Value: []byte("after")})
				t.Log("produced after", time.Since(begun))
			})
			uses.Go(func() {
				if _, err := reader.Spans("t"); err != nil {
					t.Error(err)
				}
				t.Log("asked for offsets after", time.Since(begun))
			})
			uses.Wait()
			select {
			case got := <-arrived:
				t.Log("read after", time.Since(begun))
				if got != "after" {
					t.Error(got)
				}
			case <-time.After(patience):
				t.Error("the tail does not go on")
			}
		})
	}
}

var falls = map[string]func(*crowd, string){
	"altogether":                 (*crowd).fall,
	"on connections that it has": (*crowd).hang,
}

// A group goes on, with the records that come, when its coordinator falls silent and another broker takes its place.
func TestCoordinatorFallsSilent(t *testing.T) {
	patient(t)
	t.Parallel()
	for name, fall := range falls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := startCrowd(t)
			for k.LeaderFor("t", 0) == k.CoordinatorFor("g") {
				k.RehashCoordinators()
			}
			c := kafka.Cluster{Brokers: k.ListenAddrs()}
			p := newProducer(t, c)
			m := joinGroup(t, c)
			produce(t, p, wire.Record{Topic: "t", Value: []byte("before")})
			m.want(t, "before")
			coordinator := k.CoordinatorFor("g")
			fall(k, k.address(t, coordinator))
			for k.CoordinatorFor("g") == coordinator {
				k.RehashCoordinators()
			}
			begun := time.Now()
			produce(t, p, wire.Record{Topic: "t", Value: []byte("after")})
			m.want(t, "after")
			t.Log("a record after", time.Since(begun))
			for committed := int64(0); committed < 2; {
				response, err := c.Committed("g", map[string][]int32{"t": {0}})
				if err != nil {
					t.Fatal(err)
				}
				committed = response.GetBlock("t", 0).Offset
				if time.Since(begun) > patience {
					t.Fatalf("committed up to %d", committed)
				}
			}
			t.Log("a commit after", time.Since(begun))
		})
	}
}

// member is one of a group that marks what it reads.
type member struct {
	records chan string
	setup   chan struct{}
}

// joinGroup makes a member, which leaves with the test.
func joinGroup(t *testing.T, c kafka.Cluster) *member {
	t.Helper()
	g, err := kafka.NewGroup(c, kafka.Membership{Group: "g", Drain: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	m := &member{records: make(chan string, 100), setup: make(chan struct{}, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	var consuming sync.WaitGroup
	consuming.Go(func() {
		for ctx.Err() == nil {
			if err := g.Consume(ctx, []string{"t"}, m); err != nil && ctx.Err() == nil {
				t.Log("the member:", err)
			}
		}
	})
	consuming.Go(func() {
		for err := range g.Errors() {
			t.Log("the group:", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		if err := g.Close(); err != nil {
			t.Log("leaving:", err)
		}
		consuming.Wait()
	})
	return m
}

func (m *member) want(t *testing.T, value string) {
	t.Helper()
	select {
	case got := <-m.records:
		if got != value {
			t.Errorf("got %s, want %s", got, value)
		}
	case <-time.After(patience):
		t.Fatalf("the group does not get %s", value)
	}
}

func (m *member) Setup(sarama.ConsumerGroupSession) error { m.setup <- struct{}{}; return nil }
func (*member) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (m *member) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for record := range recordsOf(claim) {
		m.records <- string(record.Value)
		s.MarkOffset(record.Topic, record.Partition, record.Offset+1, "")
	}
	return nil
}

// Where nobody takes the place of a broker that is silent, all go on with it when it answers again.
func TestSilentClusterComesBack(t *testing.T) {
	patient(t)
	t.Parallel()
	k := startCrowd(t)
	c := kafka.Cluster{Brokers: k.ListenAddrs()}
	p, reader, m := newProducer(t, c), newReader(t, c), joinGroup(t, c)
	arrived := make(chan string, 10)
	tail, err := kafka.NewTail(t.Context(), c, []string{"t"}, func(r wire.Record) { arrived <- string(r.Value) }, nil, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer tail.Close()
	produce(t, p, wire.Record{Topic: "t", Value: []byte("before")})
	m.want(t, "before")
	for _, address := range k.ListenAddrs() {
		k.fall(address)
	}
	answer := make(chan error, 1)
	p.Send(wire.Record{Topic: "t", Value: []byte("during")}, func(_ int64, err error) { answer <- err })
	if _, err := reader.Spans("t"); err == nil {
		t.Fatal("a broker that is silent has answered")
	}
	for _, address := range k.ListenAddrs() {
		k.rise(address)
	}
	begun := time.Now()
	if err := <-answer; err != nil {
		t.Error(err)
	}
	t.Log("produced after", time.Since(begun))
	for got := ""; got != "during"; { // the one before comes again where it was not committed
		select {
		case got = <-m.records:
		case <-time.After(patience):
			t.Fatal("the group does not go on")
		}
	}
	t.Log("the group has it after", time.Since(begun))
	for _, want := range []string{"before", "during"} {
		select {
		case got := <-arrived:
			if got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		case <-time.After(patience):
			t.Errorf("the tail does not get %s", want)
		}
	}
	t.Log("the tail has it after", time.Since(begun))
	if _, err := reader.Spans("t"); err != nil {
		t.Error(err)
	}
}
