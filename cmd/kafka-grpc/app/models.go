package app

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"kafkagrpc/internal/payload"
	"kafkagrpc/topology"
)

// models check records, by the validators that the models of a topology have. Safe for concurrent use.
type models struct{}

// startModels makes what checks the records of all topics, with the schemas that registries have.
func (a *App) startModels(ctx context.Context) error {
	a.codecs = a.newCodecs(ctx)
	return a.prepareModels(a.c.Topology)
}

// prepareModels gives the models of a topology what checks records: that of the start where it asked for the same, as that follows its schema.
func (a *App) prepareModels(t *topology.Topology) error {
	if a.c.Views.Mode == Only {
		return nil
	}
	start := a.c.Topology.AllModels()
	for _, m := range t.AllModels() {
		if i := slices.IndexFunc(start, m.Same); i >= 0 && start[i].Validator() != nil {
			m.SetValidator(start[i].Validator())
			continue
		}
		v, err := a.codecs.validator(m)
		if err != nil {
			return err
		}
		m.SetValidator(v)
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
func (models) Check(by *topology.Model, value []byte) error {
	if len(value) < by.Skip {
		return &payload.Error{Reason: "it has no frame of a schema registry"}
	}
	return by.Validator().Validate(value[by.Skip:])
}

// Extract answers a field of a message as text; nil: it is not there.
func (models) Extract(e topology.Extraction, message []byte) ([]byte, error) {
	m := dynamicpb.NewMessage(e.Message)
	if err := proto.Unmarshal(message, m); err != nil {
		return nil, fmt.Errorf("it is no %s", e.Message.FullName())
	}
	return payload.FieldText(m, e.Field), nil
}
