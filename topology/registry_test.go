package topology_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"kafkagrpc/topology"
)

func TestRegistries(t *testing.T) {
	t.Parallel()
	const path = "testdata/registry.good.yaml"
	loaded, err := topology.Load(path, topology.Options{LookupEnv: variables(t, path)})
	if err != nil {
		t.Fatal(err)
	}
	want := []topology.Registry{
		{Catalog: "events", URL: "https://registry:8081", Context: ".shop", MaxAge: time.Minute, Authorization: "Bearer hunter2"},
		{Catalog: "replies", URL: "http://karapace:8081/api", MaxAge: 5 * time.Minute, Authorization: "Basic YW5uOmh1bnRlcjI="},
		{Catalog: "spare", URL: "http://spare", MaxAge: 5 * time.Minute},
	}
	var got []topology.Registry
	for _, r := range loaded.Registries {
		got = append(got, *r)
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(topology.Registry{}, "TLS")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if c := got[0].TLS; c == nil || len(c.Config.Certificates) != 1 || c.Config.RootCAs == nil || got[1].TLS != nil {
		t.Errorf("the TLS of the registries is %v and %v", c, got[1].TLS)
	}
	encoded, err := loaded.JSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{loaded.Text(), string(encoded), fmt.Sprintf("%+v", got)} {
		for _, secret := range []string{"hunter2", "YW5uOmh1bnRlcjI", "ann:"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s shows in %s", secret, text)
			}
		}
	}
}
