package deadletter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"kafkagrpc/internal/jsonanswer"
	"kafkagrpc/internal/kafka"
)

const (
	shownLetters    = 100 // the newest of a topic
	replayedAtOnce  = 100
	handlerTime     = 25 * time.Second
	handlerBodySize = 64 << 10
)

// Handler serves GET /v1/dead-letters, the newest that were not replayed and pass the filter of the query, and POST /v1/dead-letters:replay. Each reads the topics, so
// that one request is worked on at a time, and others are told to come again.
func Handler(sources []Source) http.Handler {
	h := &handler{sources: sources, turn: make(chan struct{}, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/dead-letters", h.oneByOne(h.list))
	mux.HandleFunc("POST /v1/dead-letters:replay", h.oneByOne(h.replay))
	return mux
}

type handler struct {
	sources []Source
	turn    chan struct{} // has room for the one who is worked for
}

// failure is an answer that says what is wrong.
type failure struct {
	status        int
	code, message string
}

func (f *failure) Error() string { return f.message }

func (h *handler) oneByOne(serve func(context.Context, *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var answer any
		var err error
		select {
		case h.turn <- struct{}{}:
			ctx, cancel := context.WithTimeout(r.Context(), handlerTime)
			answer, err = serve(ctx, r)
			cancel()
			<-h.turn
		default:
			err = &failure{http.StatusTooManyRequests, "resource_exhausted", "dead letters are being read for somebody else: try again"}
		}
		status := http.StatusOK
		if err != nil {
			var known *failure
			if !errors.As(err, &known) {
				known = &failure{http.StatusServiceUnavailable, "unavailable", err.Error()}
			}
			status, answer = known.status, jsonanswer.Error{Code: known.code, Message: known.message}
		}
		jsonanswer.Write(w, status, answer)
	}
}

// with opens a topic. One that does not exist yet has no letters.
func (s Source) with(ctx context.Context, since time.Time, use func(*Topic) error) (err error) {
	reader, err := kafka.NewReader(s.Cluster)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	topic, err := Open(ctx, reader, s.Topic, since)
	if err != nil {
		return err
	}
	return use(topic)
}

type topicJSON struct {
	Topic    string            `json:"topic"`
	Found    int               `json:"found"`
	Replayed int               `json:"replayed"`
	Letters  []json.RawMessage `json:"letters"`
}

func (h *handler) list(ctx context.Context, r *http.Request) (any, error) {
	filter, err := filterOf(r.URL.Query(), time.Now())
	if err != nil {
		return nil, &failure{http.StatusBadRequest, "invalid_argument", err.Error()}
	}
	answer := struct {
		Topics []topicJSON `json:"topics"`
	}{[]topicJSON{}}
	for _, s := range h.sources {
		err := s.with(ctx, filter.Since, func(topic *Topic) error {
			found, err := topic.Newest(ctx, Query{Picks: s.Picks(filter), Limit: shownLetters})
			if err != nil {
				return err
			}
			t := topicJSON{Topic: s.Topic, Found: found.Found, Replayed: found.Replayed, Letters: []json.RawMessage{}}
			for _, l := range found.Letters {
				text, err := l.JSON(s.Request(l))
				if err != nil {
					return err
				}
				t.Letters = append(t.Letters, text)
			}
			answer.Topics = append(answer.Topics, t)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return answer, nil
}

// filterOf reads the parameters of a query. One that is unknown is a mistake: without it more letters would be there.
func filterOf(query url.Values, now time.Time) (Filter, error) {
	for name, values := range query {
		if !slices.ContainsFunc(FilterFields, func(f FilterField) bool { return f.Name == name }) {
			return Filter{}, fmt.Errorf("%.100s: no such parameter: there are %s", name, strings.Join(fieldNames(), ", "))
		}
		if len(values) > 1 {
			return Filter{}, fmt.Errorf("%s: it is given %d times", name, len(values))
		}
	}
	return ParseFilter(query.Get, func(name string) string { return name }, now)
}

func fieldNames() (names []string) {
	for _, f := range FilterFields {
		names = append(names, f.Name)
	}
	return names
}

func (h *handler) replay(ctx context.Context, r *http.Request) (any, error) {
	bad := func(format string, args ...any) error {
		return &failure{http.StatusBadRequest, "invalid_argument", fmt.Sprintf(format, args...)}
	}
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		return nil, &failure{http.StatusUnsupportedMediaType, "invalid_argument", "the body is JSON, and so must be its Content-Type"}
	}
	var request struct {
		Topic   string   `json:"topic"`
		Letters []string `json:"letters"`
	}
	decoder := json.NewDecoder(http.MaxBytesReader(nil, r.Body, handlerBodySize))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil {
		return nil, bad("the body: %v; it is {\"topic\": \"...\", \"letters\": [\"0@12\"]}", err)
	}
	if len(request.Letters) == 0 || len(request.Letters) > replayedAtOnce {
		return nil, bad("letters: it takes from 1 to %d of them", replayedAtOnce)
	}
	for _, s := range h.sources {
		if s.Topic == request.Topic {
			return s.replay(ctx, request.Letters, bad)
		}
	}
	var topics []string
	for _, s := range h.sources {
		topics = append(topics, s.Topic)
	}
	return nil, bad("topic: it takes one of %s", strings.Join(topics, ", "))
}

func (s Source) replay(ctx context.Context, letters []string, bad func(string, ...any) error) (answer any, err error) {
	var positions []Position
	for _, text := range letters {
		p, err := ParsePosition(text)
		if err != nil {
			return nil, bad("letters: %v", err)
		}
		positions = append(positions, p)
	}
	err = s.with(ctx, time.Time{}, func(topic *Topic) (err error) {
		var spans []kafka.Span
		for _, p := range positions {
			span, err := topic.Exactly(ctx, p)
			if err != nil {
				return bad("letters: %v", err)
			}
			spans = append(spans, span)
		}
		producer, err := NewProducer(s.Cluster, s.Inputs)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, producer.Close()) }()
		var said bytes.Buffer
		replay := Replay{Topic: topic, Inputs: s.Inputs, Sender: producer, Named: true, Out: &said}
		result, err := replay.Run(ctx, spans)
		answer = map[string]any{"replayed": result.Replayed, "before": result.Before, "failed": result.Failed, "said": strings.TrimSpace(said.String())}
		return err
	})
	return answer, err
}
