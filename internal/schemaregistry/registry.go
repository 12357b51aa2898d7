// Package schemaregistry asks a schema registry for schemas: by the ids that values carry, and by subjects. It keeps what it has got.
//
// It knows nothing of Kafka, of values, and of what is done with a schema.
package schemaregistry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/sr"

	"kafkagrpc/internal/payload"
	"kafkagrpc/topology"
)

const (
	timeout       = 10 * time.Second // of one schema, with those that it refers to
	unknownTime   = 10 * time.Second // that an id counts as unknown
	maxSchemas    = 1000             // that are kept
	maxAnswer     = 4 << 20          // bytes of one answer
	maxReferences = 200              // of one schema, and of those that they refer to
)

// Registry is one. Safe for concurrent use.
type Registry struct {
	name    string
	idBytes int
	api     api
	http    *http.Client
	mu      sync.Mutex
	entries map[int]*entry
	clock   uint64
}

// api is how a registry is asked. What it does not know is an error that isUnknown takes for one.
type api interface {
	byID(ctx context.Context, id int) (sr.Schema, error)
	byVersion(ctx context.Context, subject string, version int) (sr.SubjectSchema, error) // or the latest
	referred(ctx context.Context, to sr.SchemaReference) (sr.SubjectSchema, error)        // also where it is deleted
}

// entry is what is known of an id. Whoever made it asks; the others wait until done is closed.
type entry struct {
	done   chan struct{}
	schema *payload.Schema
	err    error
	until  time.Time // of an error that counts for a while
	used   uint64
}

// Open makes a Registry. It asks nothing yet.
func Open(c *topology.Registry) (*Registry, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if c.TLS != nil {
		transport.TLSClientConfig = c.TLS.Config.Clone()
	}
	transport.MaxIdleConnsPerHost = 2
	transport.DialContext = (&net.Dialer{Timeout: timeout / 2}).DialContext
	r := &Registry{name: "catalog `" + c.Catalog + "`", idBytes: cmp.Or(c.IDBytes, payload.ShortID), entries: map[int]*entry{}, http: &http.Client{Timeout: timeout, Transport: bounded{transport}}}
	var err error
	if c.Apicurio {
		r.api = &apicurio{registry: c, http: r.http}
	} else {
		r.api, err = newConfluent(c, r.http)
	}
	return r, err
}

// IDBytes implements payload.Schemas.
func (r *Registry) IDBytes() int { return r.idBytes }

// confluent is the protocol of Confluent's registry, which Karapace speaks, too.
type confluent struct{ client *sr.Client }

func newConfluent(c *topology.Registry, client *http.Client) (confluent, error) {
	options := []sr.ClientOpt{sr.URLs(c.URL), sr.UserAgent("kafka-grpc"), sr.HTTPClient(client)}
	if c.Context != "" {
		options = append(options, sr.DefaultSchemaContext(c.Context))
	}
	if c.Authorization != "" {
		options = append(options, sr.PreReq(func(request *http.Request) error {
			request.Header.Set("Authorization", string(c.Authorization))
			return nil
		}))
	}
	made, err := sr.NewClient(options...)
	return confluent{made}, err
}

func (c confluent) byID(ctx context.Context, id int) (sr.Schema, error) {
	return c.client.SchemaByID(ctx, id)
}

func (c confluent) byVersion(ctx context.Context, subject string, version int) (sr.SubjectSchema, error) {
	return c.client.SchemaByVersion(ctx, subject, version)
}

func (c confluent) referred(ctx context.Context, to sr.SchemaReference) (sr.SubjectSchema, error) {
	return c.client.SchemaByVersion(sr.WithParams(ctx, sr.ShowDeleted), to.Subject, to.Version)
}

// Close ends the connections that nobody uses.
func (r *Registry) Close() { r.http.CloseIdleConnections() }

// bounded lets no answer be longer than maxAnswer.
type bounded struct{ *http.Transport }

func (b bounded) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := b.Transport.RoundTrip(request)
	if err == nil {
		response.Body = http.MaxBytesReader(nil, response.Body, maxAnswer)
	}
	return response, err
}

// Known implements payload.Schemas.
func (r *Registry) Known(id int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[id]
	return e != nil && e.counts()
}

// counts reports whether an entry is an answer.
func (e *entry) counts() bool {
	select {
	case <-e.done:
		return e.err == nil || time.Now().Before(e.until)
	default:
		return false
	}
}

// Schema implements payload.Schemas. An id is asked for once at a time, and never again once it is known: what an id stands for does not
// change. That it stands for nothing counts for a short time.
func (r *Registry) Schema(ctx context.Context, id int) (*payload.Schema, error) {
	for {
		e, mine := r.entry(id)
		if mine {
			e.schema, e.err = r.fetch(ctx, id)
			r.settle(id, e)
		}
		select {
		case <-e.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("schema %d of %s: %w", id, r.name, ctx.Err())
		}
		// Who asked may have been called off: that says nothing to those who waited.
		if mine || !errors.Is(e.err, context.Canceled) && !errors.Is(e.err, context.DeadlineExceeded) {
			return e.schema, e.err
		}
	}
}

// entry is that of an id, and whether the caller has to fill it.
func (r *Registry) entry(id int) (e *entry, mine bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock++
	e = r.entries[id]
	if e != nil {
		select {
		case <-e.done:
			mine = !e.counts()
		default:
		}
	}
	if e == nil || mine {
		e, mine = &entry{done: make(chan struct{})}, true
		r.entries[id] = e
	}
	e.used = r.clock
	return e, mine
}

// settle ends the wait for an entry, and forgets what is too much: an error that may pass, or the entry that was used longest ago.
func (r *Registry) settle(id int, e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if errors.As(e.err, new(*payload.Error)) {
		e.until = time.Now().Add(unknownTime)
	}
	close(e.done)
	if e.err != nil && e.until.IsZero() {
		delete(r.entries, id)
	}
	for len(r.entries) > maxSchemas {
		oldest, found := 0, false
		for id, other := range r.entries {
			select {
			case <-other.done:
				if !found || other.used < r.entries[oldest].used {
					oldest, found = id, true
				}
			default:
			}
		}
		if !found {
			return
		}
		delete(r.entries, oldest)
	}
}

// fetch asks for the schema with an id.
func (r *Registry) fetch(ctx context.Context, id int) (*payload.Schema, error) {
	within, cancel := context.WithTimeoutCause(ctx, timeout, errSlow)
	defer cancel()
	s, err := r.api.byID(within, id)
	if isUnknown(err) {
		return nil, &payload.Error{Reason: fmt.Sprintf("its schema %d is unknown to %s", id, r.name)}
	}
	if err != nil {
		return nil, fmt.Errorf("schema %d of %s: %w", id, r.name, plain(within, err))
	}
	return r.schema(within, id, s)
}

// schema is one with what it refers to, ready to be used or an error of its own.
func (r *Registry) schema(ctx context.Context, id int, s sr.Schema) (*payload.Schema, error) {
	schema := &payload.Schema{ID: id, IDBytes: r.idBytes, Text: s.Schema}
	switch s.Type {
	case sr.TypeAvro:
		schema.Format = payload.FormatAvro
		c := collection{registry: r, seen: map[sr.SchemaReference]bool{}}
		if err := c.add(ctx, s.References, 0); err != nil {
			if isUnknown(err) {
				return nil, &payload.Error{Reason: fmt.Sprintf("its schema %d of %s refers to one that is unknown there", id, r.name)}
			}
			return nil, fmt.Errorf("schema %d of %s: %w", id, r.name, plain(ctx, err))
		}
		schema.References = c.texts
	case sr.TypeProtobuf:
		schema.Format = payload.FormatProtobuf
	case sr.TypeJSON:
		schema.Format = payload.FormatJSON
	default:
		return nil, &payload.Error{Reason: fmt.Sprintf("its schema %d of %s is of a type that is not known here", id, r.name)}
	}
	return schema, schema.Check()
}

// collection are the texts of what a schema refers to, each once and after what it refers to itself.
type collection struct {
	registry *Registry
	seen     map[sr.SchemaReference]bool
	texts    []string
}

func (c *collection) add(ctx context.Context, references []sr.SchemaReference, depth int) error {
	for _, reference := range references {
		reference.Name = "" // the same schema under any name
		if c.seen[reference] {
			continue
		}
		if c.seen[reference] = true; len(c.seen) > maxReferences {
			return &payload.Error{Reason: fmt.Sprintf("refers to more than %d schemas", maxReferences)}
		}
		// One that is deleted is there as long as something refers to it.
		s, err := c.registry.api.referred(ctx, reference)
		if err != nil {
			return err
		}
		if err := c.add(ctx, s.References, depth+1); err != nil {
			return err
		}
		c.texts = append(c.texts, s.Schema.Schema)
	}
	return nil
}

// isUnknown reports whether the registry says that there is no such schema, subject or version. Any other server may say 404.
func isUnknown(err error) bool {
	var answer *sr.ResponseError
	if !errors.As(err, &answer) || answer.StatusCode != http.StatusNotFound {
		return false
	}
	switch answer.ErrorCode {
	case sr.ErrSubjectNotFound.Code, sr.ErrVersionNotFound.Code, sr.ErrSchemaNotFound.Code:
		return true
	}
	return false
}

var errSlow = fmt.Errorf("it has not answered within %v", timeout)

// plain says what went wrong in one line, without what others may have put into it: an answer's body is theirs.
func plain(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var answer *sr.ResponseError
	if errors.As(err, &answer) {
		text := fmt.Sprintf("it answers %d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
		if answer.ErrorCode != 0 {
			text += fmt.Sprintf(", error %d: %.200s", answer.ErrorCode, strings.Join(strings.Fields(answer.Message), " "))
		}
		return errors.New(text)
	}
	var request *url.Error
	if errors.As(err, &request) {
		return request.Err
	}
	if errors.As(err, new(*http.MaxBytesError)) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("its answer cannot be read, or is longer than %d bytes", maxAnswer)
	}
	return err
}

// Ping reports whether the registry answers as one: that it knows no schema 0 will do.
func (r *Registry) Ping(ctx context.Context) error {
	within, cancel := context.WithTimeoutCause(ctx, timeout, errSlow)
	defer cancel()
	if _, err := r.api.byID(within, 0); err != nil && !isUnknown(err) {
		return fmt.Errorf("%s: %w", r.name, plain(within, err))
	}
	return nil
}
