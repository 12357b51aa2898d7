package views

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"kafkagrpc/views/viewspb"
)

// maxScans is how many pages are read at the same time; others wait for their turn as long as their caller does.
const maxScans = 8

// Source is what can be asked of the table of one group: a Table, or a Local. Another instance asks with only for what is in
// some partitions, and is not sent on.
type Source interface {
	Group() string
	get(ctx context.Context, key string, only []int32) (*viewspb.GetResponse, error)
	list(ctx context.Context, request *viewspb.ListRequest, only []int32) (page, error)
	watch(ctx context.Context, client string, request *viewspb.WatchRequest, send func(*viewspb.WatchResponse) error) error
	stats(ctx context.Context, only []int32) *viewspb.TableStats
	command(ctx context.Context, c command, keys []string, only []int32) ([]*viewspb.CommandResult, error)
}

// service is the protobuf service. The REST paths and the page ask it, too.
type service struct {
	tables []Source
	scans  chan struct{}
	peers  chan struct{} // as scans, for other instances: those that wait for each other must not have all places of both
}

func newService(tables []Source) *service {
	return &service{tables, make(chan struct{}, maxScans), make(chan struct{}, maxScans)}
}

// table is the one of a group, or the only one.
func (s *service) table(group string) (Source, error) {
	var groups []string
	for _, t := range s.tables {
		if t.Group() == group || group == "" && len(s.tables) == 1 {
			return t, nil
		}
		groups = append(groups, t.Group())
	}
	return nil, &badRequest{"group", "it takes one of " + strings.Join(groups, ", ")}
}

// Get implements viewspb.ViewsHandler.
func (s *service) Get(ctx context.Context, r *connect.Request[viewspb.GetRequest]) (*connect.Response[viewspb.GetResponse], error) {
	only, err := partitionsIn(r.Header())
	if err != nil {
		return nil, coded(err)
	}
	response, err := s.get(ctx, r.Msg, only)
	return respond(response, err)
}

func (s *service) get(ctx context.Context, r *viewspb.GetRequest, only []int32) (*viewspb.GetResponse, error) {
	t, err := s.table(r.Group)
	if err != nil {
		return nil, err
	}
	key := r.Key
	switch {
	case len(r.RawKey) > 0 && key != "":
		return nil, &badRequest{"raw_key", "give either key or raw_key"}
	case len(r.RawKey) > 0:
		key = string(r.RawKey)
	case key == "":
		return nil, &badRequest{"key", "which key? it is missing"}
	}
	if len(key) > maxKey {
		return nil, &badRequest{"key", fmt.Sprintf("it has %d bytes, and no key has more than %d", len(key), maxKey)}
	}
	return t.get(ctx, key, only)
}

// List implements viewspb.ViewsHandler.
func (s *service) List(ctx context.Context, r *connect.Request[viewspb.ListRequest]) (*connect.Response[viewspb.ListResponse], error) {
	only, err := partitionsIn(r.Header())
	if err != nil {
		return nil, coded(err)
	}
	response, err := s.list(ctx, r.Msg, only)
	return respond(response, err)
}

func (s *service) list(ctx context.Context, r *viewspb.ListRequest, only []int32) (*viewspb.ListResponse, error) {
	t, err := s.table(r.Group)
	if err != nil {
		return nil, err
	}
	places := s.scans
	if only != nil {
		places = s.peers
	}
	select {
	case places <- struct{}{}:
		defer func() { <-places }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	page, err := t.list(ctx, r, only)
	if err != nil {
		return nil, err
	}
	return &viewspb.ListResponse{Entries: page.entries, NextCursor: page.next, Scanned: page.scanned, Freshness: freshnessOf(page.fresh)}, nil
}

// Watch implements viewspb.ViewsHandler.
func (s *service) Watch(ctx context.Context, r *connect.Request[viewspb.WatchRequest], stream *connect.ServerStream[viewspb.WatchResponse]) error {
	return coded(s.watch(ctx, r.Peer().Addr, r.Msg, stream.Send))
}

// watch is asked by a client that has the address remote.
func (s *service) watch(ctx context.Context, remote string, r *viewspb.WatchRequest, send func(*viewspb.WatchResponse) error) error {
	t, err := s.table(r.Group)
	if err != nil {
		return err
	}
	return t.watch(ctx, clientAt(remote), r, send)
}

// clientAt is who has an address: its host, and for IPv6 the network, of which one host has all addresses.
func clientAt(remote string) string {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	host := at.Addr().Unmap()
	if host.Is4() || host.IsLoopback() {
		return host.String()
	}
	network, err := host.WithZone("").Prefix(64)
	if err != nil {
		return host.String()
	}
	return network.String()
}

// Stats implements viewspb.ViewsHandler.
func (s *service) Stats(ctx context.Context, r *connect.Request[viewspb.StatsRequest]) (*connect.Response[viewspb.StatsResponse], error) {
	only, err := partitionsIn(r.Header())
	if err != nil {
		return nil, coded(err)
	}
	return connect.NewResponse(s.stats(ctx, only)), nil
}

func (s *service) stats(ctx context.Context, only []int32) *viewspb.StatsResponse {
	out := &viewspb.StatsResponse{}
	for _, t := range s.tables {
		out.Tables = append(out.Tables, t.stats(ctx, only))
	}
	slices.SortFunc(out.Tables, func(a, b *viewspb.TableStats) int { return strings.Compare(a.Group, b.Group) })
	return out
}

func freshnessOf(f Freshness) *viewspb.Freshness {
	if f.AsOf.IsZero() {
		return &viewspb.Freshness{Lag: f.Lag}
	}
	return &viewspb.Freshness{AsOf: timestamppb.New(f.AsOf), AgeMs: time.Since(f.AsOf).Milliseconds(), Lag: f.Lag}
}

func respond[T any](response *T, err error) (*connect.Response[T], error) {
	if err != nil {
		return nil, coded(err)
	}
	return connect.NewResponse(response), nil
}

// coded gives an error its code, unless it has one.
func coded(err error) error {
	if err == nil {
		return nil
	}
	var known *connect.Error
	if errors.As(err, &known) {
		return err
	}
	return connect.NewError(codeFor(err), err)
}

func codeFor(err error) connect.Code {
	var (
		bad   *badRequest
		none  *notFound
		many  *tooMany
		young *NotReadyError
		part  *elsewhereError
	)
	var coded *connect.Error // of the instance that was asked
	switch {
	case errors.As(err, &coded):
		return coded.Code()
	case errors.As(err, &bad):
		return connect.CodeInvalidArgument
	case errors.As(err, &none):
		return connect.CodeNotFound
	case errors.As(err, &many), errors.Is(err, errSlow):
		return connect.CodeResourceExhausted
	case errors.As(err, &young), errors.Is(err, errClosed):
		return connect.CodeUnavailable
	case errors.As(err, &part):
		return connect.CodeFailedPrecondition
	case errors.Is(err, errOtherTable):
		return connect.CodeAborted
	case errors.Is(err, context.Canceled):
		return connect.CodeCanceled
	case errors.Is(err, context.DeadlineExceeded):
		return connect.CodeDeadlineExceeded
	default:
		return connect.CodeInternal
	}
}
