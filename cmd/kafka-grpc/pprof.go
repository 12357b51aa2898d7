package main

import (
	"net/http"
	"net/http/pprof"

	"kafkagrpc/internal/admin"
)

// mountProfiles serves Go's profiles, as net/http/pprof does, but for the command line, which may hold what is nobody's business.
func mountProfiles(s *admin.Server) {
	for path, h := range map[string]http.HandlerFunc{
		"": pprof.Index, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace,
	} {
		s.Handle("/debug/pprof/"+path, h)
	}
}
