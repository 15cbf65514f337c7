"""Databases nobody here designed, rebuilt from their published shapes in statements of our own: enough tables and rows to discover."""

PAGILA = """
CREATE DOMAIN year AS integer CHECK (VALUE BETWEEN 1901 AND 2155);
CREATE TYPE mpaa_rating AS ENUM ('G', 'PG', 'PG-13', 'R', 'NC-17');
CREATE FUNCTION last_updated() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.last_update = now(); RETURN NEW; END $$;
CREATE TABLE language (language_id serial PRIMARY KEY, name char(20) NOT NULL, last_update timestamptz NOT NULL DEFAULT now());
CREATE TABLE film (film_id serial PRIMARY KEY, title text NOT NULL, release_year year, language_id int NOT NULL REFERENCES language,
  rental_rate numeric(4,2) NOT NULL DEFAULT 4.99, rating mpaa_rating DEFAULT 'G', special_features text[], fulltext tsvector,
  last_update timestamptz NOT NULL DEFAULT now());
CREATE TABLE address (address_id serial PRIMARY KEY, address text NOT NULL, phone text, last_update timestamptz NOT NULL DEFAULT now());
CREATE TABLE store (store_id serial PRIMARY KEY, manager_staff_id int NOT NULL, address_id int NOT NULL REFERENCES address,
  last_update timestamptz NOT NULL DEFAULT now());
CREATE TABLE staff (staff_id serial PRIMARY KEY, first_name text NOT NULL, address_id int NOT NULL REFERENCES address,
  store_id int NOT NULL REFERENCES store, active boolean NOT NULL DEFAULT true, username text NOT NULL, password text, picture bytea,
  last_update timestamptz NOT NULL DEFAULT now());
CREATE TABLE customer (customer_id serial PRIMARY KEY, store_id int NOT NULL REFERENCES store, first_name text NOT NULL, email text,
  address_id int NOT NULL REFERENCES address, activebool boolean NOT NULL DEFAULT true, create_date date NOT NULL DEFAULT current_date,
  last_update timestamptz DEFAULT now(), active int);
CREATE TABLE inventory (inventory_id serial PRIMARY KEY, film_id int NOT NULL REFERENCES film, store_id int NOT NULL REFERENCES store,
  last_update timestamptz NOT NULL DEFAULT now());
CREATE TABLE rental (rental_id serial PRIMARY KEY, rental_date timestamptz NOT NULL, inventory_id int NOT NULL REFERENCES inventory,
  customer_id int NOT NULL REFERENCES customer, return_date timestamptz, staff_id int NOT NULL REFERENCES staff,
  last_update timestamptz NOT NULL DEFAULT now());
CREATE TABLE payment (payment_id serial NOT NULL, customer_id int NOT NULL, staff_id int NOT NULL, rental_id int NOT NULL,
  amount numeric(5,2) NOT NULL, payment_date timestamptz NOT NULL, PRIMARY KEY (payment_date,
  payment_id)) PARTITION BY RANGE (payment_date);
CREATE TABLE payment_p2022_01 PARTITION OF payment FOR VALUES FROM ('2022-01-01') TO ('2022-02-01');
CREATE TABLE payment_p2022_02 PARTITION OF payment FOR VALUES FROM ('2022-02-01') TO ('2022-03-01');
ALTER TABLE payment ADD FOREIGN KEY (customer_id) REFERENCES customer;
CREATE VIEW customer_list AS SELECT customer_id AS id, first_name AS name, store_id AS sid FROM customer;
CREATE INDEX ON payment_p2022_01 (customer_id);
CREATE TRIGGER last_updated BEFORE UPDATE ON rental FOR EACH ROW EXECUTE FUNCTION last_updated();
CREATE TRIGGER last_updated BEFORE UPDATE ON inventory FOR EACH ROW EXECUTE FUNCTION last_updated();
COMMENT ON TABLE rental IS 'One row per rental.';
COMMENT ON COLUMN rental.return_date IS 'NULL while the film
is out.';
INSERT INTO language (name) VALUES ('English');
INSERT INTO address (address) SELECT 'Street ' || n FROM generate_series(1, 9) n;
INSERT INTO store (manager_staff_id, address_id) VALUES (1, 1), (2, 2);
INSERT INTO staff (first_name, address_id, store_id, username, password) VALUES ('Mike', 3, 1, 'mike', 'x'), ('Jon', 4, 2, 'jon', 'y');
INSERT INTO customer (store_id, first_name, email, address_id, last_update)
  SELECT 1 + n % 2, 'Customer ' || n, n || '@example.com', 5 + n % 4, CASE WHEN n = 3 THEN NULL ELSE now() - interval '2 days' END
  FROM generate_series(1, 10) n;
INSERT INTO film (title, language_id, special_features) SELECT 'Film ' || n, 1, ARRAY['Trailers'] FROM generate_series(1, 5) n;
INSERT INTO inventory (film_id, store_id, last_update) SELECT 1 + n % 5, 1 + n % 2,
  now() - interval '2 days' FROM generate_series(1, 20) n;
INSERT INTO rental (rental_date, inventory_id, customer_id, staff_id, last_update)
  SELECT '2022-01-02'::timestamptz + n * interval '1 hour', 1 + n % 20, 1 + n % 10, 1 + n % 2, now() - interval '2 days'
  FROM generate_series(1, 40) n;
INSERT INTO payment (customer_id, staff_id, rental_id, amount, payment_date)
  SELECT 1 + n % 10, 1, 1 + n % 40, 1.99, '2022-01-05'::timestamptz + n * interval '1 day' FROM generate_series(1, 40) n;
"""
"""Dates of the shop's two stores; a store is the tenant."""

CHINOOK = """
CREATE TABLE "Artist" ("ArtistId" INTEGER NOT NULL PRIMARY KEY, "Name" NVARCHAR(120));
CREATE TABLE "Album" ("AlbumId" INTEGER NOT NULL PRIMARY KEY, "Title" NVARCHAR(160) NOT NULL,
  "ArtistId" INTEGER NOT NULL REFERENCES "Artist" ("ArtistId"));
CREATE TABLE "Track" ("TrackId" INTEGER NOT NULL PRIMARY KEY, "Name" NVARCHAR(200) NOT NULL,
  "AlbumId" INTEGER REFERENCES "Album" ("AlbumId"),
  "UnitPrice" NUMERIC(10,2) NOT NULL);
CREATE TABLE "Employee" ("EmployeeId" INTEGER NOT NULL PRIMARY KEY, "LastName" NVARCHAR(20) NOT NULL,
  "ReportsTo" INTEGER REFERENCES "Employee" ("EmployeeId"));
CREATE TABLE "Customer" ("CustomerId" INTEGER NOT NULL PRIMARY KEY, "FirstName" NVARCHAR(40) NOT NULL, "Email" NVARCHAR(60) NOT NULL,
  "SupportRepId" INTEGER REFERENCES "Employee" ("EmployeeId"));
CREATE TABLE "Invoice" ("InvoiceId" INTEGER NOT NULL PRIMARY KEY, "CustomerId" INTEGER NOT NULL REFERENCES "Customer" ("CustomerId"),
  "InvoiceDate" DATETIME NOT NULL, "Total" NUMERIC(10,2) NOT NULL);
CREATE TABLE "InvoiceLine" ("InvoiceLineId" INTEGER NOT NULL PRIMARY KEY, "InvoiceId" INTEGER NOT NULL REFERENCES "Invoice" ("InvoiceId"),
  "TrackId" INTEGER NOT NULL REFERENCES "Track" ("TrackId"), "UnitPrice" NUMERIC(10,2) NOT NULL, "Quantity" INTEGER NOT NULL);
CREATE TABLE "PlaylistTrack" ("PlaylistId" INTEGER NOT NULL, "TrackId" INTEGER NOT NULL REFERENCES "Track",
  PRIMARY KEY ("PlaylistId", "TrackId"));
INSERT INTO "Employee" VALUES (1, 'Peacock', NULL);
INSERT INTO "Customer" VALUES (1, 'Luís', 'l@example.com', 1), (2, 'Leonie', 'k@example.com', 1);
INSERT INTO "Invoice" VALUES (1, 1, '2021-01-01 00:00:00', 1.98), (2, 2, '2021-01-02 00:00:00', 3.96);
INSERT INTO "Artist" VALUES (1, 'AC/DC');
INSERT INTO "Album" VALUES (1, 'Let There Be Rock', 1);
INSERT INTO "Track" VALUES (1, 'Go Down', 1, 0.99), (2, 'Overdose', 1, 0.99);
INSERT INTO "InvoiceLine" VALUES (1, 1, 1, 0.99, 1), (2, 1, 2, 0.99, 1), (3, 2, 1, 0.99, 2);
"""
"""The music shop, as SQLite has it; a customer is the tenant."""

NORTHWIND = """
CREATE TABLE customers (customer_id VARCHAR PRIMARY KEY, company_name VARCHAR NOT NULL, contact_name VARCHAR);
CREATE TABLE products (product_id SMALLINT PRIMARY KEY, product_name VARCHAR NOT NULL, unit_price REAL, discontinued INTEGER NOT NULL);
CREATE TABLE orders (order_id SMALLINT PRIMARY KEY, customer_id VARCHAR REFERENCES customers (customer_id), order_date DATE,
  freight REAL);
CREATE TABLE order_details (order_id SMALLINT NOT NULL REFERENCES orders (order_id),
  product_id SMALLINT NOT NULL REFERENCES products (product_id),
  unit_price REAL NOT NULL, quantity SMALLINT NOT NULL, discount REAL NOT NULL, PRIMARY KEY (order_id, product_id));
CREATE TABLE territories (territory_id VARCHAR PRIMARY KEY, territory_description VARCHAR NOT NULL);
COMMENT ON TABLE orders IS 'Sales orders.';
INSERT INTO customers VALUES ('ALFKI', 'Alfreds Futterkiste', 'Maria Anders'), ('ANATR', 'Ana Trujillo', NULL);
INSERT INTO products VALUES (1, 'Chai', 18, 0), (2, 'Chang', 19, 0);
INSERT INTO orders VALUES (10248, 'ALFKI', '1996-07-04', 32.38), (10249, 'ANATR', '1996-07-05', 11.61), (10250, 'ALFKI', NULL, NULL);
INSERT INTO order_details VALUES (10248, 1, 14, 12, 0), (10248, 2, 9.8, 10, 0), (10249, 1, 18.6, 9, 0.15);
"""
"""The trading company, in a DuckDB file; a customer is the tenant."""
