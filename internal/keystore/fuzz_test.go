package keystore

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a store asks for is bounded: one that asks for more work than it is given is refused, before the work.
func TestWork(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"keytool.p12", "keytool-legacy.p12", "keytool-md5-des.p12", "openssl-nomac.p12"} {
		data, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := open(data, "changeit", 1000); err == nil || !strings.Contains(err.Error(), "iterations of its key derivation") {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := newSecret("", maxWork)
	for _, iterations := range []int{-1, 0, maxWork + 1, math.MaxInt} {
		if s.spend(iterations, 1) == nil {
			t.Errorf("%d iterations are allowed", iterations)
		}
	}
	if s.spend(maxWork/2, 2) != nil || s.spend(1, 1) == nil {
		t.Error("all iterations of a store count")
	}
}

// Whatever a store holds, it is refused or read, within the work that it is given.
func FuzzOpen(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.p12")
	if err != nil || len(paths) == 0 {
		f.Fatalf("no stores (%v)", err)
	}
	for _, path := range append(paths, "testdata/keytool.jks", "testdata/keytool.jceks") {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, password := range []string{"changeit", ""} {
			store, err := openWithin(data, "", password, 50_000)
			if err != nil {
				continue
			}
			for _, alias := range store.Keys() {
				if key, err := store.Key(alias); (key == nil) == (err == nil) {
					t.Errorf("key %q is %v, %v", alias, key, err)
				}
			}
			for _, alias := range store.Certificates() {
				if certificate, _, err := store.Certificate(alias); (certificate == nil) == (err == nil) {
					t.Errorf("certificate %q is %v, %v", alias, certificate, err)
				}
			}
		}
	})
}
