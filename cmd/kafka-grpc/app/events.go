package app

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"kafkagrpc/internal/payload"
	"kafkagrpc/internal/restart"
	"kafkagrpc/internal/schemaregistry"
	"kafkagrpc/topology"
)

const (
	registryPatience = 15 * time.Second // that the start waits for a schema registry
	registryPause    = 500 * time.Millisecond
)

// codecs makes what reads and writes the values of plain events. Routes share the registries that have their schemas.
type codecs struct {
	app        *App
	start      context.Context // that of the app
	registries map[*topology.Registry]*schemaregistry.Registry
	framed     []framedEvent
}

// framedEvent is one of the start whose schemas a registry has. Other ones need a restart, but it may be left out, and come again.
type framedEvent struct {
	topology.Event
	read  payload.Decoder
	write payload.Encoder
}

func (a *App) newCodecs(start context.Context) *codecs {
	return &codecs{app: a, start: start, registries: map[*topology.Registry]*schemaregistry.Registry{}}
}

// of is partition.Codecs.
func (c *codecs) of(event topology.Event) (read payload.Decoder, write payload.Encoder, err error) {
	for _, f := range c.framed {
		if f.Same(&event) {
			return f.read, f.write, nil
		}
	}
	if read, err = c.decoder(event); err != nil {
		return nil, nil, err
	}
	if event.Reply.Name != "" {
		if write, err = c.encoder(event); err != nil {
			return nil, nil, err
		}
	}
	if event.Request.Registry != nil || event.Reply.Registry != nil {
		c.framed = append(c.framed, framedEvent{event, read, write})
	}
	return read, write, nil
}

func (c *codecs) decoder(event topology.Event) (payload.Decoder, error) {
	e := event.Request
	var schemas payload.Schemas
	if e.Registry != nil {
		r, err := c.registry(e.Registry)
		if err != nil {
			return nil, err
		}
		schemas = r
	}
	unknown := payload.UnknownFields(e.IgnoreUnknown)
	switch framed := schemas != nil; {
	case e.Name == topology.EncodingAvro:
		return payload.FramedAvro(schemas, event.Input, unknown), nil
	case e.Name == topology.EncodingProtobuf && framed:
		return payload.FramedProtobuf(schemas, event.Input.FullName(), payload.NewProtobuf(event.Input, unknown)), nil
	case e.Name == topology.EncodingProtobuf:
		return payload.NewProtobuf(event.Input, unknown), nil
	case e.Name == topology.EncodingJSON && framed:
		return payload.FramedJSON(schemas, payload.NewJSON(event.Input, unknown)), nil
	case e.Name == topology.EncodingJSON:
		return payload.NewJSON(event.Input, unknown), nil
	}
	return nil, fmt.Errorf("no encoding is called %q", e.Name)
}

func (c *codecs) encoder(event topology.Event) (payload.Encoder, error) {
	e := event.Reply
	var schema func() *payload.Schema
	if e.Registry != nil {
		var err error
		if schema, err = c.follow(e, event.Output.FullName()); err != nil {
			return nil, err
		}
	}
	switch framed := schema != nil; {
	case e.Name == topology.EncodingAvro:
		return payload.FramedAvroEncoder(event.Output, schema), nil
	case e.Name == topology.EncodingProtobuf && framed:
		return payload.FramedProtobufEncoder(event.Output.FullName(), payload.NewProtobuf(event.Output, payload.IgnoreUnknown), schema), nil
	case e.Name == topology.EncodingProtobuf:
		return payload.NewProtobuf(event.Output, payload.IgnoreUnknown), nil
	case e.Name == topology.EncodingJSON && framed:
		return payload.FramedJSONEncoder(payload.NewJSON(event.Output, payload.IgnoreUnknown), schema), nil
	case e.Name == topology.EncodingJSON:
		return payload.NewJSON(event.Output, payload.IgnoreUnknown), nil
	}
	return nil, fmt.Errorf("no encoding is called %q", e.Name)
}

// follow looks up the schema that an encoding names, now and again.
func (c *codecs) follow(e topology.Encoding, message protoreflect.FullName) (func() *payload.Schema, error) {
	r, err := c.registry(e.Registry)
	if err != nil {
		return nil, err
	}
	followed, err := r.Follow(c.start, e, message)
	if err != nil {
		return nil, err
	}
	c.app.run(c.start, func(ctx context.Context) error {
		followed.Run(ctx, e.Registry.MaxAge, c.app.c.Log)
		return nil
	})
	return followed.Schema, nil
}

// registry is that of a catalog, opened once. It has to answer within a bounded wait: what starts together with it may be there first.
func (c *codecs) registry(of *topology.Registry) (*schemaregistry.Registry, error) {
	if r := c.registries[of]; r != nil {
		return r, nil
	}
	r, err := schemaregistry.Open(of)
	if err != nil {
		return nil, err
	}
	c.app.onStop(func() error {
		r.Close()
		return nil
	})
	ctx, cancel := context.WithTimeout(c.start, registryPatience)
	defer cancel()
	for waiting := false; ; waiting = true {
		if err = r.Ping(ctx); err == nil {
			c.registries[of] = r
			return r, nil
		}
		if !waiting {
			c.app.c.Log.Warn("a schema registry cannot be asked yet: trying again", "error", err)
		}
		if !restart.Pause(ctx, registryPause) {
			return nil, err
		}
	}
}
