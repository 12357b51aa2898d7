package schemaregistry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/sr"

	"kafkagrpc/topology"
)

// apicurio is the core API of Apicurio's registry, in the version that its releases 2 and 3 have.
type apicurio struct {
	registry *topology.Registry
	http     *http.Client
}

const apicurioAPI = "/apis/registry/v2"

// ask gets what is at a path, as it is.
func (a *apicurio) ask(ctx context.Context, path string) ([]byte, error) {
	at := a.registry.URL
	if !strings.Contains(at, "/apis/") {
		at += apicurioAPI
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "kafka-grpc")
	if a.registry.Authorization != "" {
		request.Header.Set("Authorization", string(a.registry.Authorization))
	}
	response, err := a.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusOK {
		return body, nil
	}
	failure := &sr.ResponseError{Method: http.MethodGet, StatusCode: response.StatusCode}
	var said struct {
		Code int    `json:"error_code"`
		Name string `json:"name"`
	}
	if json.Unmarshal(body, &said) == nil {
		failure.ErrorCode, failure.Message = said.Code, said.Name
		if response.StatusCode == http.StatusNotFound && strings.HasSuffix(said.Name, "NotFoundException") {
			failure.ErrorCode = sr.ErrSchemaNotFound.Code
		}
	}
	return nil, failure
}

// ids is the path of a schema by the id that values have.
func (a *apicurio) ids(id int) string {
	kind := "/ids/globalIds/"
	if a.registry.ContentID {
		kind = "/ids/contentIds/"
	}
	return kind + strconv.Itoa(id)
}

func (a *apicurio) byID(ctx context.Context, id int) (s sr.Schema, err error) {
	text, err := a.ask(ctx, a.ids(id))
	if err != nil {
		return s, err
	}
	s.Schema, s.Type = string(text), guessType(text)
	s.References, err = a.references(ctx, a.ids(id)+"/references")
	return s, err
}

// guessType is that of a schema whose content alone is known.
func guessType(text []byte) sr.SchemaType {
	var whole any
	if json.Unmarshal(text, &whole) != nil {
		return sr.TypeProtobuf
	}
	if object, ok := whole.(map[string]any); ok {
		switch object["type"] {
		case "record", "enum", "fixed", "map":
			return sr.TypeAvro
		}
		return sr.TypeJSON
	}
	return sr.TypeAvro // a name, or a union
}

// apicurioMeta is what is known of a version.
type apicurioMeta struct {
	Type      string `json:"type"`
	Version   string `json:"version"`
	GlobalID  int    `json:"globalId"`
	ContentID int    `json:"contentId"`
}

func (a *apicurio) byVersion(ctx context.Context, subject string, version int) (sr.SubjectSchema, error) {
	of := "/groups/" + url.PathEscape(a.registry.Group) + "/artifacts/" + url.PathEscape(subject)
	path := of
	if version != latest {
		path += "/versions/" + strconv.Itoa(version)
	}
	return a.version(ctx, subject, of, path+"/meta")
}

func (a *apicurio) version(ctx context.Context, subject, of, meta string) (s sr.SubjectSchema, err error) {
	text, err := a.ask(ctx, meta)
	if err != nil {
		return s, err
	}
	var m apicurioMeta
	if err := json.Unmarshal(text, &m); err != nil || m.Version == "" {
		return s, fmt.Errorf("its answer about %s cannot be read", subject)
	}
	at := of + "/versions/" + url.PathEscape(m.Version)
	if text, err = a.ask(ctx, at); err != nil {
		return s, err
	}
	s.Subject, s.ID, s.Schema.Schema = subject, m.GlobalID, string(text)
	if a.registry.ContentID {
		s.ID = m.ContentID
	}
	s.Version, _ = strconv.Atoi(m.Version) // or a name
	switch m.Type {
	case "AVRO":
		s.Type = sr.TypeAvro
	case "PROTOBUF":
		s.Type = sr.TypeProtobuf
	case "JSON":
		s.Type = sr.TypeJSON
	default:
		s.Type = -1
	}
	s.References, err = a.references(ctx, at+"/references")
	return s, err
}

// references are those of a schema. Their subject is a path.
func (a *apicurio) references(ctx context.Context, path string) (all []sr.SchemaReference, err error) {
	text, err := a.ask(ctx, path)
	if isUnknown(err) || err == nil && len(bytes.TrimSpace(text)) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found []struct {
		Group    string `json:"groupId"`
		Artifact string `json:"artifactId"`
		Version  string `json:"version"`
		Name     string `json:"name"`
	}
	if err := json.Unmarshal(text, &found); err != nil {
		return nil, fmt.Errorf("its answer about references cannot be read")
	}
	for _, r := range found {
		if r.Group == "" {
			r.Group = "default"
		}
		all = append(all, sr.SchemaReference{Name: r.Name, Subject: "/groups/" + url.PathEscape(r.Group) + "/artifacts/" + url.PathEscape(r.Artifact) + "|" + r.Version})
	}
	return all, nil
}

func (a *apicurio) referred(ctx context.Context, to sr.SchemaReference) (sr.SubjectSchema, error) {
	of, version, _ := strings.Cut(to.Subject, "|")
	meta := of + "/versions/" + url.PathEscape(version) + "/meta"
	if version == "" {
		meta = of + "/meta"
	}
	return a.version(ctx, to.Subject, of, meta)
}
