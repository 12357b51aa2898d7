package views

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/internal/jsonanswer"
	"kafkagrpc/views/viewspb"
	"kafkagrpc/wire"
)

// command is something that is done with keys that wait for another attempt. Whoever works on the partition of a key does it.
type command int

const (
	retry command = iota
	giveUp
)

const (
	maxCommandKeys = 200
	// commandsAtOnce is how many keys of one request are under way: each waits for Kafka.
	commandsAtOnce = 100
)

// NotWaitingError says that a command has nothing to do with a key.
type NotWaitingError struct{ Reason string }

func (e *NotWaitingError) Error() string { return e.Reason }

// Retry implements viewspb.ViewsHandler.
func (s *service) Retry(ctx context.Context, r *connect.Request[viewspb.CommandRequest]) (*connect.Response[viewspb.CommandResponse], error) {
	only, err := partitionsIn(r.Header())
	if err != nil {
		return nil, coded(err)
	}
	response, err := s.command(ctx, retry, r.Msg, only)
	return respond(response, err)
}

// GiveUp implements viewspb.ViewsHandler.
func (s *service) GiveUp(ctx context.Context, r *connect.Request[viewspb.CommandRequest]) (*connect.Response[viewspb.CommandResponse], error) {
	only, err := partitionsIn(r.Header())
	if err != nil {
		return nil, coded(err)
	}
	response, err := s.command(ctx, giveUp, r.Msg, only)
	return respond(response, err)
}

func (s *service) command(ctx context.Context, c command, r *viewspb.CommandRequest, only []int32) (*viewspb.CommandResponse, error) {
	t, err := s.table(r.Group)
	if err != nil {
		return nil, err
	}
	if n := len(r.Keys); n == 0 || n > maxCommandKeys {
		return nil, &badRequest{"keys", fmt.Sprintf("it takes 1 to %d keys", maxCommandKeys)}
	}
	keys := make([]string, len(r.Keys))
	for i, k := range r.Keys {
		keys[i] = viewspb.KeyOf(k)
		if keys[i] == "" || len(keys[i]) > maxKey {
			return nil, &badRequest{"keys", fmt.Sprintf("key %d has %d bytes; a key has 1 to %d", i+1, len(keys[i]), maxKey)}
		}
	}
	results, err := t.command(ctx, c, keys, only)
	if err != nil {
		return nil, err
	}
	return &viewspb.CommandResponse{Results: results}, nil
}

// command has it done by whoever works on each key. Where somebody could not be asked, the results say so of the keys. Another instance asks with only for some
// partitions of this one.
func (l *Local) command(ctx context.Context, c command, keys []string, only []int32) ([]*viewspb.CommandResult, error) {
	mine, others := l.shares(nil)
	of := int32(len(mine) + len(others))
	if of == 0 {
		return nil, &NotReadyError{"the partitions of the table are not known yet"}
	}
	d := &commanded{results: make([]*viewspb.CommandResult, len(keys))}
	asked := map[int32][]int{} // the places of keys, by a partition of others that may have them
	var doing sync.WaitGroup
	places := make(chan struct{}, commandsAtOnce)
	for i, key := range keys {
		d.results[i] = new(viewspb.CommandResult)
		d.results[i].Key, d.results[i].RawKey = textKey(key)
		in := only
		switch {
		case only != nil:
		case l.c.Ordered: // it is where the record was
			in = mine
			if len(others) > 0 {
				asked[others[0]] = append(asked[others[0]], i)
			}
		default:
			in = []int32{wire.Partition([]byte(key), of)}
		}
		for _, p := range in {
			if only == nil && !slices.Contains(mine, p) {
				asked[p] = append(asked[p], i)
				continue
			}
			places <- struct{}{}
			doing.Go(func() {
				defer func() { <-places }()
				d.add(i, l.do(ctx, c, key, p))
			})
		}
	}
	for p, at := range asked {
		in := []int32{p}
		if l.c.Ordered {
			in = others
		}
		doing.Go(func() { l.commandOthers(ctx, c, in, at, keys, d) })
	}
	doing.Wait()
	return d.results, nil
}

// commanded are the results of a command, of each key from all partitions that may have it.
type commanded struct {
	mu      sync.Mutex
	results []*viewspb.CommandResult
}

// add adds what came of a key in one of them. It is done where that is so in any.
func (d *commanded) add(i int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch r := d.results[i]; {
	case err == nil:
		r.Done, r.Reason = true, ""
	case !r.Done && (r.Reason == "" || !errors.As(err, new(*NotWaitingError))):
		r.Reason = reason(err)
	}
}

func (l *Local) do(ctx context.Context, c command, key string, partition int32) error {
	if c == giveUp {
		return l.c.Rows.GiveUp(ctx, key, partition)
	}
	return l.c.Rows.RetryNow(ctx, key, partition)
}

// commandOthers has it done by the instances that work on partitions, for the keys at some places.
func (l *Local) commandOthers(ctx context.Context, c command, partitions []int32, at []int, keys []string, d *commanded) {
	request := &viewspb.CommandRequest{Group: l.c.Group}
	for _, i := range at {
		k := new(viewspb.CommandKey)
		k.Key, k.RawKey = viewspb.AskedKey(keys[i])
		request.Keys = append(request.Keys, k)
	}
	answers, err := ask(ctx, l.peers, partitions, func(ctx context.Context, client viewspb.ViewsClient, share []int32) (*viewspb.CommandResponse, error) {
		do := client.Retry
		if c == giveUp {
			do = client.GiveUp
		}
		response, err := do(ctx, forwardedTo(proto.CloneOf(request), share))
		if err != nil {
			return nil, err
		}
		if len(response.Msg.Results) != len(at) {
			return nil, &NotReadyError{"another instance has not answered for all keys"}
		}
		return response.Msg, nil
	})
	for n, i := range at {
		if err != nil {
			d.add(i, err)
		}
		for _, a := range answers {
			switch r := a.Results[n]; {
			case err != nil: // and nobody knows of which
			case r.Done:
				d.add(i, nil)
			default:
				d.add(i, &NotWaitingError{r.Reason})
			}
		}
	}
}

// command has the work of this instance do it, if there is any.
func (t *Table) command(ctx context.Context, c command, keys []string, only []int32) ([]*viewspb.CommandResult, error) {
	if t.c.Work == nil {
		return nil, &elsewhereError{"this process has a copy of the table, and does not work on it: ask an instance that runs"}
	}
	return t.c.Work.command(ctx, c, keys, only)
}

// command serves a path that does something, which takes its request as JSON.
func (h rest) command(c command) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
			jsonanswer.Fail(w, http.StatusUnsupportedMediaType, "invalid_argument", `the body is JSON: {"keys": [{"key": "..."}]}, with Content-Type: application/json`)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		request := &viewspb.CommandRequest{}
		if err == nil {
			err = protojson.Unmarshal(body, request)
		}
		if err != nil {
			fail(w, &badRequest{"body", `it is JSON: {"keys": [{"key": "..."}]}: ` + err.Error()})
			return
		}
		response, err := h.service.command(r.Context(), c, request, nil)
		answer(w, response, err)
	}
}
