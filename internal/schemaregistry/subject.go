package schemaregistry

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"kafkagrpc/internal/payload"
	"kafkagrpc/topology"
)

const latest = -1 // of the versions of a subject

// Find asks for the schema that a reference names.
func (r *Registry) Find(ctx context.Context, ref topology.SchemaRef) (*payload.Schema, error) {
	if ref.ID != 0 {
		return r.Schema(ctx, ref.ID)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errSlow)
	defer cancel()
	version := ref.Version
	if version == 0 {
		version = latest
	}
	s, err := r.api.byVersion(ctx, ref.Subject, version)
	if isUnknown(err) {
		return nil, fmt.Errorf("%s is unknown to %s", ref, r.name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", ref, r.name, plain(ctx, err))
	}
	return r.schema(ctx, s.ID, s.Schema)
}

// Followed is a schema that values are written with, or validated by: the one that a reference names at the moment.
type Followed struct {
	registry *Registry
	ref      topology.SchemaRef
	format   payload.Format
	message  protoreflect.FullName
	current  atomic.Pointer[payload.Schema]
}

// Follow finds the schema that an encoding of a message names: one that can hold it. Without a message it is one that values are validated by.
func (r *Registry) Follow(ctx context.Context, e topology.Encoding, message protoreflect.FullName) (*Followed, error) {
	f := &Followed{registry: r, ref: e.Schema, format: formats[e.Name], message: message}
	_, err := f.look(ctx)
	return f, err
}

// Schema is the one to write with.
func (f *Followed) Schema() *payload.Schema { return f.current.Load() }

var formats = map[string]payload.Format{
	topology.EncodingAvro: payload.FormatAvro, topology.EncodingProtobuf: payload.FormatProtobuf, topology.EncodingJSON: payload.FormatJSON,
}

// look takes over what the reference names now, and tells whether that is another schema.
func (f *Followed) look(ctx context.Context) (changed bool, err error) {
	s, err := f.registry.Find(ctx, f.ref)
	if err != nil {
		return false, err
	}
	if f.message == "" {
		if s.Format != f.format {
			return false, fmt.Errorf("%s of %s is of %s, not of %s", f.ref, f.registry.name, s.Format, f.format)
		}
		err = s.CanValidate()
	} else {
		err = s.Holds(f.format, f.message)
	}
	if err != nil {
		return false, fmt.Errorf("%s of %s: %w", f.ref, f.registry.name, err)
	}
	before := f.current.Swap(s)
	return before != nil && before.ID != s.ID, nil
}

// Run looks for a newer version each time that one has got old, until ctx ends. Where there is none to be had the last one stays, and the
// log says so once.
func (f *Followed) Run(ctx context.Context, maxAge time.Duration, log *slog.Logger) {
	if f.ref.ID != 0 || f.ref.Version != 0 { // it never changes
		<-ctx.Done()
		return
	}
	ticker := time.NewTicker(maxAge)
	defer ticker.Stop()
	for stale := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		changed, err := f.look(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !stale:
			log.Warn("a schema cannot be looked up again; the last one stays", "schema", f.ref.String(), "id", f.Schema().ID, "error", err)
		case err == nil && stale:
			log.Info("a schema can be looked up again", "schema", f.ref.String(), "id", f.Schema().ID)
		case changed:
			log.Info("there is another schema", "schema", f.ref.String(), "id", f.Schema().ID)
		}
		stale = err != nil
	}
}
