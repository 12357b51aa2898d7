package schemaregistry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/sr"

	"kafkagrpc/internal/restart"
	"kafkagrpc/topology"
)

const (
	protoPause = 500 * time.Millisecond // before a registry is asked for a proto again
	protoOnce  = 3 * time.Second        // that it may take when it is asked once
)

// Proto asks for a proto with all that it imports.
func (r *Registry) Proto(ctx context.Context, ref topology.SchemaRef) (p topology.RegistryProto, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errSlow)
	defer cancel()
	var s sr.SubjectSchema
	if ref.ID != 0 {
		s.ID = ref.ID
		s.Schema, err = r.api.byID(ctx, ref.ID)
	} else {
		version := ref.Version
		if version == 0 {
			version = latest
		}
		s, err = r.api.byVersion(ctx, ref.Subject, version)
	}
	switch {
	case isUnknown(err):
		return p, &protoError{fmt.Errorf("%s is unknown to %s", ref, r.name)}
	case err != nil:
		return p, fmt.Errorf("%s of %s: %w", ref, r.name, plain(ctx, err))
	case s.Type != sr.TypeProtobuf:
		return p, &protoError{fmt.Errorf("%s of %s is no proto, but of another type", ref, r.name)}
	}
	p.ID, p.Version, p.Text = s.ID, s.Version, s.Schema.Schema
	imports := protoImports{registry: r, seen: map[sr.SchemaReference]bool{}}
	if err := imports.add(ctx, s.References); err != nil {
		if isUnknown(err) {
			return p, &protoError{fmt.Errorf("%s of %s refers to a schema that is unknown there", ref, r.name)}
		}
		return p, fmt.Errorf("%s of %s: %w", ref, r.name, plain(ctx, err))
	}
	p.Imports = imports.all
	return p, nil
}

// protoError is one that asking again does not mend.
type protoError struct{ error }

func (e *protoError) Unwrap() error { return e.error }

// AwayError is one of a registry that could not be asked: it may be there later.
type AwayError struct{ error }

func (e *AwayError) Unwrap() error { return e.error }

// protoImports are what a proto refers to, each once.
type protoImports struct {
	registry *Registry
	seen     map[sr.SchemaReference]bool
	all      []topology.ProtoImport
}

func (p *protoImports) add(ctx context.Context, references []sr.SchemaReference) error {
	for _, reference := range references {
		if p.seen[reference] {
			continue
		}
		if p.seen[reference] = true; len(p.seen) > maxReferences {
			return &protoError{fmt.Errorf("it refers to more than %d schemas", maxReferences)}
		}
		s, err := p.registry.api.referred(ctx, reference)
		if err != nil {
			return err
		}
		p.all = append(p.all, topology.ProtoImport{Name: reference.Name, Source: fmt.Sprintf("%s/%d", reference.Subject, reference.Version), Text: s.Schema.Schema})
		if err := p.add(ctx, s.References); err != nil {
			return err
		}
	}
	return nil
}

// Protos answers the protos of registries, for topology.Options. A registry that cannot be asked is waited for. After one was waited for in vain the
// others are asked once, until one answers; its error is an AwayError. For one caller at a time.
func Protos(ctx context.Context, patience time.Duration, log *slog.Logger) func(*topology.Registry, topology.SchemaRef) (topology.RegistryProto, error) {
	left := patience
	return func(of *topology.Registry, ref topology.SchemaRef) (topology.RegistryProto, error) {
		r, err := Open(of)
		if err != nil {
			return topology.RegistryProto{}, err
		}
		defer r.Close()
		within, cancel := context.WithTimeout(ctx, max(left, protoOnce))
		defer cancel()
		var last error
		for waiting := false; ; waiting = true {
			p, err := r.Proto(within, ref)
			if err == nil || errors.As(err, new(*protoError)) {
				left = patience
				return p, err
			}
			if within.Err() == nil || last == nil {
				last = err
			}
			if !waiting && log != nil {
				log.Warn("a schema registry cannot be asked for protos yet: trying again", "error", err)
			}
			if left == 0 || within.Err() != nil || !restart.Pause(within, protoPause) {
				left = 0
				return p, &AwayError{last}
			}
		}
	}
}
