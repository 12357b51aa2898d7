package views

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/views/viewspb"
)

const (
	// forwardedHeader marks a question of another instance, which is not sent on: it names the partitions that are asked for.
	forwardedHeader = "Kafka-Grpc-Forwarded"
	// forwardTime is how long an instance may take to answer.
	forwardTime = 5 * time.Second
	// ownersAge is how long it is believed who owns which partition, as a rebalance changes it.
	ownersAge = time.Second
)

// Address is what an instance tells the others of where it is asked: a URL, and the host where only those on it reach that; "" where all do.
func Address(url, host string) string {
	if host == "" {
		return url
	}
	return url + "#" + host
}

// elsewhereError says that an instance has what is asked for, and cannot be asked.
type elsewhereError struct{ reason string }

func (e *elsewhereError) Error() string { return e.reason }

// peers are the other instances of a group. Kafka knows what each works on, and where it is asked. Its methods are safe for concurrent use.
type peers struct {
	c      LocalConfig
	client *http.Client

	mu     sync.Mutex
	topics *kafka.Topics
	owners map[int32]kafka.Owner
	of     time.Time // when Kafka said so
}

func newPeers(c LocalConfig) *peers {
	return &peers{c: c, client: &http.Client{Transport: c.Peers, Timeout: forwardTime}}
}

func (p *peers) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.client.CloseIdleConnections()
	if p.topics == nil {
		return nil
	}
	return p.topics.Close()
}

// shares are the partitions by the URL of the instance to ask for them. An error names those that nobody can be asked for.
func (p *peers) shares(partitions []int32, fresh bool) (map[string][]int32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if fresh || time.Since(p.of) > ownersAge {
		if err := p.learn(); err != nil {
			return nil, &NotReadyError{err.Error()}
		}
	}
	shares, mute := map[string][]int32{}, map[kafka.Owner][]int32{}
	var free []int32
	for _, partition := range partitions {
		owner, ok := p.owners[partition]
		if !ok || owner.ID == p.c.Instance { // which it has not got yet
			free = append(free, partition)
		} else if url := p.reach(owner); url == "" {
			mute[owner] = append(mute[owner], partition)
		} else {
			shares[url] = append(shares[url], partition)
		}
	}
	if len(free) > 0 {
		return nil, &NotReadyError{fmt.Sprintf("no instance works on %s; a rebalance may be going on", named(free))}
	}
	var errs []error
	for _, owner := range slices.SortedFunc(maps.Keys(mute), func(a, b kafka.Owner) int { return strings.Compare(a.ID, b.ID) }) {
		told := "tells no address"
		if url, _, is := strings.Cut(owner.Tells, "#"); is {
			told = "tells " + url + ", where only its own host reaches it"
		}
		errs = append(errs, fmt.Errorf("instance %s on host %s works on %s and %s: start it with --advertise-addr and an --admin-addr that others reach, "+
			"or ask an instance with --views=all, or `kafka-grpc views`", owner.ID, owner.Host, named(mute[owner]), told))
	}
	if len(errs) > 0 {
		return nil, &elsewhereError{errors.Join(errs...).Error()}
	}
	return shares, nil
}

// reach is the URL at which an instance is asked; "" where it cannot be.
func (p *peers) reach(o kafka.Owner) string {
	url, host, only := strings.Cut(o.Tells, "#")
	if only && (host != p.c.Host || host == "") {
		return ""
	}
	return url
}

// named is how a message names partitions.
func named(partitions []int32) string {
	text := "partition "
	if len(partitions) > 1 {
		text = "partitions "
	}
	return text + numbers(partitions, ", ")
}

func numbers(partitions []int32, between string) string {
	var all []string
	for _, p := range partitions {
		all = append(all, strconv.Itoa(int(p)))
	}
	return strings.Join(all, between)
}

// learn asks Kafka for the owners. The caller holds mu.
func (p *peers) learn() error {
	if p.topics == nil {
		topics, err := kafka.OpenTopics(p.c.Cluster)
		if err != nil {
			return err
		}
		p.topics = topics
	}
	owners, err := p.topics.Owners(p.c.Group, p.c.Input)
	if err != nil {
		return err
	}
	p.owners, p.of = owners, time.Now()
	return nil
}

// ask asks all instances that work on partitions, each for its share, at the same time. It does so once more where one has just lost
// its own. The answers are whole, or there are none.
func ask[T any](ctx context.Context, p *peers, partitions []int32, question func(context.Context, viewspb.ViewsClient, []int32) (T, error)) ([]T, error) {
	for fresh := false; ; fresh = true {
		shares, err := p.shares(partitions, fresh)
		if err != nil {
			return nil, err
		}
		answers, errs := make([]T, len(shares)), make([]error, len(shares))
		var asking sync.WaitGroup
		for i, url := range slices.Sorted(maps.Keys(shares)) {
			asking.Go(func() {
				answers[i], errs[i] = question(ctx, viewspb.NewViewsClient(p.client, url), shares[url])
				errs[i] = askedFor(shares[url], url, errs[i])
			})
		}
		asking.Wait()
		i := slices.IndexFunc(errs, func(err error) bool { return err != nil })
		if i < 0 {
			return answers, nil
		}
		if fresh || codeFor(errs[i]) != connect.CodeUnavailable {
			return nil, errs[i]
		}
	}
}

// askedFor is the error of an instance at a URL, which it names unless the one who asked would get the same everywhere.
func askedFor(partitions []int32, url string, err error) error {
	if err == nil {
		return nil
	}
	code, message := codeFor(err), err.Error()
	if coded := (*connect.Error)(nil); errors.As(err, &coded) {
		message = coded.Message()
	}
	if code == connect.CodeNotFound || code == connect.CodeInvalidArgument {
		return connect.NewError(code, errors.New(message))
	}
	return connect.NewError(code, fmt.Errorf("asking %s, which works on %s: %s", url, named(partitions), message))
}

// forwardedTo is a question for the instance that works on partitions.
func forwardedTo[T any](message *T, partitions []int32) *connect.Request[T] {
	request := connect.NewRequest(message)
	request.Header().Set(forwardedHeader, numbers(partitions, ","))
	return request
}

// partitionsIn are those that another instance asks for; nil where it is none.
func partitionsIn(header http.Header) (partitions []int32, err error) {
	text := header.Get(forwardedHeader)
	if text == "" {
		return nil, nil
	}
	for number := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseInt(number, 10, 32)
		if err != nil || n < 0 || slices.Contains(partitions, int32(n)) {
			return nil, &badRequest{forwardedHeader, fmt.Sprintf("%q are no partitions", shortened(text))}
		}
		partitions = append(partitions, int32(n))
	}
	return partitions, nil
}
