package app

import (
	"context"
	"fmt"
	"sync/atomic"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"kafkagrpc/internal/payload"
	"kafkagrpc/topology"
)

// models are what records are checked by. Safe for concurrent use.
type models struct {
	validators atomic.Pointer[map[*topology.Model]payload.Validator]
}

// follow lets the models of another topology be those of the one that runs, which are the same. Records that are under way have those of before.
func (m *models) follow(running, next *topology.Topology) {
	before, all := *m.validators.Load(), map[*topology.Model]payload.Validator{}
	now := next.AllModels()
	for i, model := range running.AllModels() {
		all[model], all[now[i]] = before[model], before[model]
	}
	m.validators.Store(&all)
}

// startModels makes what checks the records of all topics, with the schemas that registries have.
func (a *App) startModels(ctx context.Context) error {
	a.models, a.codecs = &models{}, a.newCodecs(ctx)
	all := map[*topology.Model]payload.Validator{}
	a.models.validators.Store(&all)
	if a.c.Views.Mode == Only {
		return nil
	}
	for _, t := range a.c.Topology.AllModels() {
		v, err := a.codecs.validator(t)
		if err != nil {
			return err
		}
		all[t] = v
	}
	return nil
}

func (c *codecs) validator(m *topology.Model) (payload.Validator, error) {
	number := payload.Number{
		Bits: 64, Binary: m.Binary, Multiple: m.Multiple, Range: payload.Range{Min: m.Least, Max: m.Most, OverMin: m.AboveLeast, UnderMax: m.BelowMost},
	}
	switch m.Name {
	case "string":
		return payload.Text{UTF16: m.UTF16, Pattern: m.Pattern, Min: m.MinLength, Max: m.MaxLength}, nil
	case "int32", "float":
		number.Bits = 32
		number.Float = m.Name == "float"
		return number, nil
	case "int64", "double":
		number.Float = m.Name == "double"
		return number, nil
	case "protobuf":
		if m.Message == nil {
			return nil, fmt.Errorf("the proto of model %s was not read", m)
		}
		return payload.NewMessage(m.Message), nil
	}
	if m.Registry == nil {
		format := payload.FormatAvro
		if m.Name == "json" {
			format = payload.FormatJSON
		}
		s := &payload.Schema{Format: format, Text: m.Text}
		if err := s.CanValidate(); err != nil {
			return nil, fmt.Errorf("model %s: %w", m, err)
		}
		return payload.FollowSchema(func() *payload.Schema { return s }), nil
	}
	followed, err := c.follow(topology.Encoding{Name: m.Name, Registry: m.Registry, Schema: m.Schema}, "")
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", m, err)
	}
	return payload.FollowSchema(followed), nil
}

// Check says why a key or value does not fit, or nil.
func (m *models) Check(by *topology.Model, value []byte) error {
	if len(value) < by.Skip {
		return &payload.Error{Reason: "it has no frame of a schema registry"}
	}
	return (*m.validators.Load())[by].Validate(value[by.Skip:])
}

// Extract answers a field of a message as text; nil: it is not there.
func (*models) Extract(e topology.Extraction, message []byte) ([]byte, error) {
	m := dynamicpb.NewMessage(e.Message)
	if err := proto.Unmarshal(message, m); err != nil {
		return nil, fmt.Errorf("it is no %s", e.Message.FullName())
	}
	return payload.FieldText(m, e.Field), nil
}
