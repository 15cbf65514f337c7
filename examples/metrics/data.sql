-- Two tenants with projects p1 and p2; metrics of 400 days up to the variable `today`. `planted` stands where credentials stand in real life.
create table metrics as
select tenant_id, tenant_no * 100000 + n as id, 'p' || (n % 2 + 1) as project_id, 'metric-' || (n % 5) as metric_id,
    ['Visits', 'Sign-ups', 'Revenue', 'Errors', 'Latency'][n % 5 + 1] as metric_name, (hash(n) % 100000 / 100)::decimal(12, 2) as value,
    ['count', 'count', 'EUR', 'count', 'ms'][n % 5 + 1] as unit, getvariable('today')::timestamptz - to_hours(n * 3) as measured_at,
    ['Analytics', 'Billing', 'Monitoring'][n % 3 + 1] as service,
    json_object('completeness', (n % 100) / 100, 'delayed', n % 9 = 0, 'estimated', n % 11 = 0) as quality,
    json_object('source', json_object('region', 'eu-' || (n % 3), 'refresh_token', getvariable('planted') || 'refresh' || n),
        'tags', ['a', 'b']) as metadata,
    measured_at as updated_at
from (values ('acme', 1), ('globex', 2)) as tenants(tenant_id, tenant_no), range(3200) as numbers(n);

create table integration_connections as
select tenant_id, tenant_no * 100000 + n as id, 'p' || (n % 2 + 1) as project_id, ['Analytics', 'Billing', 'Monitoring'][n % 3 + 1] as service_name,
    ['oauth2', 'api key', 'webhook'][n % 3 + 1] as service_type, ['connected', 'failing', 'paused'][n % 3 + 1] as status,
    getvariable('today')::timestamptz - to_minutes(n * 7) as last_synced_at,
    json_object('login', 'team' || n || '@example.com', 'oauth', json_object('access_token', getvariable('planted') || 'access' || n,
        'refresh_token', getvariable('planted') || 'refresh' || n)) as account,
    json_object('interval', '15m', 'api_key', getvariable('planted') || 'api' || n,
        'webhook', json_object('url', 'https://hooks.example.com/' || n, 'webhook_secret', getvariable('planted') || 'hook' || n),
        'settings', [json_object('name', 'encryption_key', 'value', getvariable('planted') || 'encryption' || n)]) as configuration,
    last_synced_at as updated_at, getvariable('planted') || 'column' || n as access_token, getvariable('planted') || 'column' || n as refresh_token,
    getvariable('planted') || 'column' || n as api_key, getvariable('planted') || 'column' || n as webhook_secret,
    getvariable('planted') || 'column' || n as encryption_key
from (values ('acme', 1), ('globex', 2)) as tenants(tenant_id, tenant_no), range(12) as numbers(n);

create table dashboards as
select tenant_id, tenant_no * 100000 + n as id, 'p' || (n % 2 + 1) as project_id, 'Dashboard ' || n as name,
    ['overview', 'detail', 'wallboard'][n % 3 + 1] as type,
    json_array(json_object('id', 'w1', 'kind', 'line chart', 'metric', 'metric-' || (n % 5)), json_object('id', 'w2', 'kind', 'number')) as widgets,
    json_object('w1', json_object('x', 0, 'y', 0, 'w', 8, 'h', 4), 'w2', json_object('x', 8, 'y', 0, 'w', 4, 'h', 4)) as layout,
    ['private', 'project', 'public'][n % 3 + 1] as visibility, getvariable('today')::timestamptz - to_days(n * 10) as created_at,
    created_at as updated_at
from (values ('acme', 1), ('globex', 2)) as tenants(tenant_id, tenant_no), range(9) as numbers(n);
