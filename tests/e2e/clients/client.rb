# The management API by Ruby's net/http.

require "json"
require "net/http"

BASE = URI(ENV.fetch("BASE"))
EMAIL, LOGIN, PASSWORD = %w[EMAIL LOGIN PASSWORD].map { |name| ENV.fetch(name) }

def call(kind, path, body = nil, authorization = nil)
  request = kind.new("/api/v1#{path}")
  request["Authorization"] = authorization if authorization
  if body
    request["Content-Type"] = "application/json"
    request.body = JSON.generate(body)
  end
  response = Net::HTTP.start(BASE.host, BASE.port) { |http| http.request(request) }
  [response.code.to_i, JSON.parse(response.body)]
end

def check(found, expected)
  raise "#{found.inspect} is not #{expected.inspect}" unless found == expected
end

status, pair = call(Net::HTTP::Post, "/jwt", { email: EMAIL, password: PASSWORD })
check(status, 200)
bearer = "Bearer #{pair.fetch("access_token")}"
check(call(Net::HTTP::Get, "/account", nil, bearer)[1]["email"], EMAIL)

status, created = call(Net::HTTP::Post, "/api-tokens",
                       { name: "ruby", scopes: ["sites:read"], password: PASSWORD }, bearer)
check(status, 201)
token = "token #{created.fetch("token")}"
check(call(Net::HTTP::Post, "/jwt/revoke", { token: "x" }, token), [200, {}])
status, site = call(Net::HTTP::Post, "/sites", { name: "Ruby's shop" }, bearer)
check(status, 201)
status, sites = call(Net::HTTP::Get, "/sites", nil, token)
check([status, sites.map { |one| one["id"] }], [200, [site["id"]]])
check(call(Net::HTTP::Delete, "/api-tokens/#{created.fetch("id")}", nil, bearer), [200, {}])
check(call(Net::HTTP::Post, "/jwt/revoke", { token: "x" }, token)[0], 401)

status, hour = call(Net::HTTP::Post, "/login", { username: LOGIN, password: PASSWORD })
check([status, hour["message"]], [200, "Data retrieved successfully"])
check(call(Net::HTTP::Post, "/jwt/revoke", { token: "x" }, hour["data"]["token"]), [200, {}])

check(call(Net::HTTP::Patch, "/account", { name: "Ada Lovelace" }, bearer)[1]["name"], "Ada Lovelace")
puts "done"
