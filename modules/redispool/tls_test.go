package redispool

import (
	"context"
	"testing"

	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

func TestMutualTLS(t *testing.T) {
	server := redistest.StartEncrypted(t)
	ca, certificate, key := server.File("ca.crt"), server.File("client.crt"), server.File("client.key")
	mutual := client(t, &Settings{URL: server.URL, TLS: &TLS{CA: ca, Certificate: certificate, Key: key}})
	if err := mutual.Redis().Ping(context.Background()).Err(); err != nil {
		t.Errorf("with a client certificate: %v", err)
	}
	for name, s := range map[string]*Settings{
		"no client certificate":   {URL: server.URL, TLS: &TLS{CA: ca}},
		"an unknown authority":    {URL: server.URL},
		"another name":            {URL: server.URL, TLS: &TLS{CA: ca, Certificate: certificate, Key: key, ServerName: "other"}},
		"no TLS towards TLS port": {URL: "redis" + server.URL[len("rediss"):]},
	} {
		if err := client(t, s).Redis().Ping(context.Background()).Err(); err == nil {
			t.Errorf("%s: the server answers", name)
		}
	}
}
